"""`openlaunch batch-jobs`."""

from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.exits import Exit
from openlaunch.cli.inputs import json_object, read_text
from openlaunch.cli.output import (
    Json,
    as_json_text,
    emit,
    emit_rows,
    fields,
    note,
    of_document,
    waiting,
    when,
)
from openlaunch.cli.owners import with_owners
from openlaunch.cli.settings import given as given_settings
from openlaunch.cli.settings import with_settings
from openlaunch.wire.failures import reason_of

if TYPE_CHECKING:
    from openlaunch import LaunchClient

app = typer.Typer(help="Batch jobs: one bundle over many inputs.", no_args_is_help=True)

_DEFAULTS = {"cpus": "1", "memory": "2Gi", "max_workers": "10", "per_worker": "1"}

JobId = Annotated[str, typer.Argument(help="The job's id.")]


@app.command("run")
@with_settings(
    *(
        "cpus",
        "memory",
        "gpus",
        "max_workers",
        "per_worker",
        "max_batch_size",
        "max_batch_wait",
        "env",
        "secrets",
        "prefetch",
    ),
    defaults=_DEFAULTS,
)
def run_batch_job(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="The bundle's id, or its name for the newest one.")],
    inputs: Annotated[
        str | None, typer.Option(help="A file with one JSON object of keywords per line; - is stdin.")
    ] = None,
    urls: Annotated[str | None, typer.Option(help="A file with one URL per line; - is stdin.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Longest time for the whole job, in seconds.  [default: 43200]", min=0),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait, and print the results.")] = True,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Run a bundle over a file of inputs, and print one result per line, in the order of the inputs.

    `--no-wait` prints the job's id. The file of results stays on the server for a week.
    """
    given: dict[str, Any] = {"inputs": _inputs(inputs), "urls": _lines(urls, "--urls")}
    if (inputs is None) == (urls is None) or not any(given.values()):
        raise typer.BadParameter("give exactly one of --inputs and --urls, with something in it")
    with connect(context) as client:
        job_id = client.batch_async_request(
            model_bundle=bundle, **given, timeout_seconds=timeout, **given_settings(settings)
        )["job_id"]
        if not wait:
            emit({"job_id": job_id}, as_json, lambda: print(job_id))
            return
        _wait(client, job_id)
        _print_results(client, job_id, as_json)


def _inputs(name: str | None) -> list[dict[str, Any]]:
    lines = enumerate(_lines(name, "--inputs"), start=1)
    return [json_object(line, f"line {number} of the inputs") for number, line in lines]


def _lines(name: str | None, option: str) -> list[str]:
    if name is None:
        return []
    return [line for line in read_text(name, option).splitlines() if line.strip()]


def _wait(client: "LaunchClient", job_id: str) -> None:
    with waiting(f"waiting for batch job {job_id} …", f"openlaunch batch-jobs get {job_id}") as update:

        def tell(job: dict[str, Any]) -> None:
            done, left = job["num_tasks_completed"], job["num_tasks_pending"]
            if done is not None:
                update(f"batch job {job_id}: {done} of {done + left} inputs are done")

        client.wait_for_batch_job(job_id, show_progress=False, on_progress=tell)


def _print_results(client: "LaunchClient", job_id: str, as_json: bool) -> None:
    job = client.get_batch_async_response(job_id)
    if job["serialization_format"] != "JSON" and job["result"] is not None:
        print(job["result"])  # unpickling is for the caller to decide
        return
    entries = client.read_batch_results(job_id)
    failed = [number for number, entry in enumerate(entries, start=1) if entry["status"] != "SUCCESS"]
    for entry in entries:
        value = entry if as_json else entry["result"]
        print(as_json_text(value))
    if failed:
        first = failed[0]
        reason = reason_of(entries[first - 1])
        note(f"error: {len(failed)} of {len(entries)} inputs failed; the first is number {first}: {reason}")
        raise typer.Exit(Exit.FAILED)


@app.command("list")
def list_batch_jobs(context: typer.Context, as_json: Json = False) -> None:
    """List your last batch jobs, newest first."""
    with connect(context) as client:
        jobs = client.list_batch_jobs()
    names = ("JOB", "STATUS", "DONE", "LEFT", "CREATED", "REASON")
    columns, row = with_owners(context, names, _row, itemgetter("owner"))
    emit_rows(jobs, as_json, columns, row, optional=("CREATED",))


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    progress = job["num_tasks_completed"], job["num_tasks_pending"]
    return job["job_id"], job["status"], *progress, when(job["created_at"]), job["status_reason"]


@app.command("get")
def get_batch_job(
    context: typer.Context,
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Show a batch job's status and progress, and once it has ended the URL of its results."""
    with connect(context) as client:
        if wait:
            _wait(client, job_id)
        job = client.get_batch_async_response(job_id)
    emit(job, as_json, lambda: fields(of_document(job)))


@app.command("results")
def print_results(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Print the results of a job that has ended, one per line; with `--json`, also each one's status and traceback.

    For a job with pickled results, print the URL of their file.
    """
    with connect(context) as client:
        _print_results(client, job_id, as_json)


@app.command("cancel")
def cancel_batch_job(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Cancel a batch job: running inputs are stopped, and existing results are kept."""
    with connect(context) as client:
        cancelled = client.cancel_batch_job(job_id)
    emit({"cancelled": cancelled}, as_json, lambda: print("cancelled" if cancelled else "it had ended"))
