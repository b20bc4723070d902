"""Batch jobs: one bundle over many inputs."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from openlaunch.client import bucket
from openlaunch.client.effects import (
    Flow,
    Request,
    asked,
    document_of,
    json_body,
    path_to,
    takes_owner,
    url_with,
    work,
)
from openlaunch.client.lists import check_items
from openlaunch.client.models import answer, checked, got
from openlaunch.client.operations.bundles import BundleLike, bundle_id, upload
from openlaunch.client.operations.keywords import BatchKeywords, given
from openlaunch.client.predictions import unpickled
from openlaunch.client.progress import InputsProgress
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import BatchJobFailed, WaitTimeout
from openlaunch.wire import routes
from openlaunch.wire.batch_jobs import (
    BatchJobResponse,
    CreateBatchJobRequest,
    CreateBatchJobResponse,
    SerializationFormat,
    UpdateBatchJobResponse,
)

POLL_SECONDS = 1.0


@takes_owner("model_bundle")
def batch_async_request(
    *,
    model_bundle: BundleLike,
    urls: Sequence[str] | None = None,
    inputs: Sequence[dict[str, Any]] | None = None,
    batch_url_file_location: str | None = None,
    serialization_format: str = "JSON",
    labels: dict[str, str] | None = None,
    timeout_seconds: float | None = None,
    **resources: Unpack[BatchKeywords],
) -> Flow[dict[str, Any]]:
    """Run a bundle over many inputs. Returns at once, `{"job_id": …}`; `wait_for_batch_job` waits.

    Args:
        model_bundle: a bundle, its name (the newest is taken) or its id.
        urls: each input is the bytes that a URL names. Exactly one of `urls` and `inputs` is given.
        inputs: each input is the keywords of the predict function.
        batch_url_file_location: for programs written for Launch; the server says where inputs go.
        serialization_format: of the results: "JSON", or "PICKLE" for return values that are not JSON.
        labels: your own names and values.
        timeout_seconds: seconds after which the job ends with its results so far. Default: 12 hours.
        **resources: of the workers; `openlaunch.client.operations.keywords.BatchKeywords` describes them.

    Raises:
        ValueError: not exactly one of `urls` and `inputs` is given, or a value is not allowed.
        TypeError: `urls` or `inputs` has another type, an input is not JSON, or a keyword is unknown.
        NotFound: there is no such bundle.
    """
    if bool(urls) == bool(inputs):
        raise ValueError("exactly one of urls and inputs is needed, and not empty")
    check_items("urls", urls, str, "['https://…']")
    check_items("inputs", inputs, dict, "[{'x': 1}]")
    format_of_results = _format(serialization_format)
    document: dict[str, Any] = {
        "model_bundle_id": (yield from bundle_id(model_bundle)),
        "input_path": "",
        "serialization_format": format_of_results,
        "labels": labels or {},
        "resource_requests": given(BatchKeywords, resources),
    }
    if timeout_seconds is not None:
        document["timeout_seconds"] = timeout_seconds
    checked(CreateBatchJobRequest, document)
    data = yield from work(lambda: _json_lines(urls, inputs))
    document["input_path"] = yield from upload(data, routes.BATCH_UPLOAD)
    created = yield from answer(
        CreateBatchJobResponse, Request("POST", routes.BATCH_JOBS, json_body(document))
    )
    return created.model_dump()


def _format(name: str) -> str:
    try:
        return SerializationFormat(name.upper()).value
    except ValueError:
        raise ValueError(f"serialization_format is {name!r}: JSON or PICKLE is needed") from None


def _json_lines(urls: Sequence[str] | None, inputs: Sequence[dict[str, Any]] | None) -> bytes:
    bodies = [{"url": url} for url in urls or ()] + [{"args": args} for args in inputs or ()]
    return b"".join(json_body(body) + b"\n" for body in bodies)


def get_batch_async_response(batch_job_id: str) -> Flow[dict[str, Any]]:
    """Get the state of a batch job.

    Returns:
        `status` (PENDING, RUNNING, SUCCESS, FAILURE, CANCELLED or TIMEOUT), `status_reason`, `result` (a URL of
        the results, once there are any), `duration` (as ISO 8601 has it), `num_tasks_pending`,
        `num_tasks_completed`, and what the job was made with.

    Raises:
        NotFound: there is no such job.
    """
    return (
        yield from asked(
            Request("GET", path_to(routes.BATCH_JOBS, batch_job_id), idempotent=True), document_of
        )
    )


def wait_for_batch_job(
    batch_job_id: str,
    timeout: float | None = None,
    *,
    show_progress: bool | None = None,
    on_progress: Callable[[dict[str, Any]], object] | None = None,
) -> Flow[dict[str, Any]]:
    """Wait until a batch job has succeeded, and return what `get_batch_async_response` does.

    A success means that every input was tried: those that failed say so in the results.

    Args:
        batch_job_id: the `job_id` that `batch_async_request` gave.
        timeout: seconds; None waits until it has ended.
        show_progress: a progress bar on stderr; None shows it on a terminal only.
        on_progress: called with the state of the job, about once a second.

    Raises:
        BatchJobFailed: it ended as FAILURE, CANCELLED or TIMEOUT.
        WaitTimeout: it has not ended after `timeout` seconds; it keeps running.
        NotFound: there is no such job.
    """
    check_seconds(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    with InputsProgress(f"batch job {batch_job_id}", show_progress) as progress:
        while True:
            left = POLL_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            url = url_with(path_to(routes.BATCH_JOBS, batch_job_id), {"wait": min(left, POLL_SECONDS)})
            job, document = yield from asked(Request("GET", url, idempotent=True), _job_and_document)
            progress.show(job.num_tasks_completed, job.num_tasks_pending)
            if on_progress is not None:
                on_progress(document)
            if job.status.done:
                _check_succeeded(job)
                return document
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"batch job {batch_job_id!r} is {job.status} after {timeout:g} seconds; it keeps running"
                )


def read_batch_results(batch_job_id: str) -> Flow[list[dict[str, Any]]]:
    """Read the results of a batch job that has ended, in the order of its inputs.

    Pickled results are unpickled, which runs what the pickles say: use it with bundles that you trust.

    Returns:
        for each input `status` ("SUCCESS" or "FAILURE"), `result` (what the predict function returned, as a
        Python object), `traceback` and `status_code`.

    Raises:
        BatchJobFailed: it has not ended, or has no results.
        NotFound: there is no such job.
    """
    job = yield from got(BatchJobResponse, path_to(routes.BATCH_JOBS, batch_job_id))
    if job.result is None:
        raise BatchJobFailed(_about(job) + ": it has no results")
    data = yield from bucket.download(job.result)
    pickled = job.serialization_format is SerializationFormat.PICKLE
    return (yield from work(lambda: _entries(data, pickled)))


def _entries(data: bytes, pickled: bool) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = unpickled(data) if pickled else json.loads(data)
    return entries if pickled else [_with_value(entry) for entry in entries]


def _with_value(entry: dict[str, Any]) -> dict[str, Any]:
    result = entry["result"]
    return {**entry, "result": None if result is None else json.loads(result["result"])}


def list_batch_jobs(owner: str | None = None) -> Flow[list[dict[str, Any]]]:
    """List your last batch jobs, newest first, each as `get_batch_async_response` gives it.

    An admin lists those of another `owner`, or with `"*"` everybody's.
    """
    url = url_with(routes.BATCH_JOBS, {"owner": owner})
    jobs: list[dict[str, Any]] = yield from asked(
        Request("GET", url, idempotent=True), lambda body: document_of(body)["batch_jobs"]
    )
    return jobs


def cancel_batch_job(batch_job_id: str) -> Flow[bool]:
    """Cancel a batch job: running inputs are stopped, existing results are kept. Return False if it had ended.

    Raises:
        NotFound: there is no such job.
    """
    body = json_body({"cancel": True})
    url = path_to(routes.BATCH_JOBS, batch_job_id)
    return (yield from answer(UpdateBatchJobResponse, Request("PUT", url, body, idempotent=True))).success


def _job_and_document(body: bytes) -> tuple[BatchJobResponse, dict[str, Any]]:
    return BatchJobResponse.model_validate_json(body), document_of(body)


def _check_succeeded(job: BatchJobResponse) -> None:
    if job.status != "SUCCESS":
        kept = "" if job.result is None else "; the results that there are can be read"
        raise BatchJobFailed(_about(job) + kept)


def _about(job: BatchJobResponse) -> str:
    reason = f": {job.status_reason}" if job.status_reason else ""
    return f"batch job {job.job_id!r} is {job.status}{reason}"
