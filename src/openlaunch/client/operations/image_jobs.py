"""Docker-image batch jobs, their bundles and triggers."""

import time
from typing import Any, Unpack

from openlaunch.client.effects import (
    Flow,
    Request,
    asked,
    call,
    document_of,
    json_body,
    path_to,
    takes_owner,
    url_with,
)
from openlaunch.client.models import checked
from openlaunch.client.operations.keywords import ResourceKeywords, given
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import BatchJobFailed, WaitTimeout
from openlaunch.wire import routes
from openlaunch.wire.image_jobs import (
    CreateDockerImageBatchJobBundleRequest,
    CreateDockerImageBatchJobRequest,
    DockerImageBatchJobResponse,
)
from openlaunch.wire.triggers import CreateTriggerRequest

POLL_SECONDS = 10.0


@takes_owner("name")
def create_docker_image_batch_job_bundle(
    *,
    name: str,
    image_repository: str,
    image_tag: str,
    command: list[str],
    env: dict[str, str] | None = None,
    mount_location: str | None = None,
    **resources: Unpack[ResourceKeywords],
) -> Flow[dict[str, Any]]:
    """Define what docker-image batch jobs run. Gives `{"docker_image_batch_job_bundle_id": …}`.

    Args:
        name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        image_repository: of the image; it is fetched if it is not on the server's machine.
        image_tag: of the image, or its digest.
        command: the program and its arguments, in place of the image's entry point; empty: its own.
        env: environment variables of the container.
        mount_location: the file, inside, that has a job's `job_config` as JSON.
        **resources: of its jobs; `openlaunch.client.operations.keywords.ResourceKeywords` describes them.

    Raises:
        TypeError: a keyword is unknown.
        Unprocessable: a value is not allowed.
    """
    document = {
        "name": name,
        "image_repository": image_repository,
        "image_tag": image_tag,
        "command": command,
        "env": env or {},
        "mount_location": mount_location,
        "resource_requests": given(ResourceKeywords, resources),
    }
    body = checked(CreateDockerImageBatchJobBundleRequest, document)
    return (yield from _json(Request("POST", routes.DOCKER_IMAGE_BATCH_JOB_BUNDLES, json_body(body))))


def get_docker_image_batch_job_bundle(docker_image_batch_job_bundle_id: str) -> Flow[dict[str, Any]]:
    """Get a bundle by its id.

    Raises:
        NotFound: there is none of this id.
    """
    url = path_to(routes.DOCKER_IMAGE_BATCH_JOB_BUNDLES, docker_image_batch_job_bundle_id)
    return (yield from _get(url))


def get_latest_docker_image_batch_job_bundle(bundle_name: str) -> Flow[dict[str, Any]]:
    """Get the newest bundle of a name.

    Raises:
        NotFound: there is none of this name.
    """
    url = url_with(f"{routes.DOCKER_IMAGE_BATCH_JOB_BUNDLES}/latest", {"bundle_name": bundle_name})
    return (yield from _get(url))


def list_docker_image_batch_job_bundles(
    bundle_name: str | None = None, order_by: str | None = None, owner: str | None = None
) -> Flow[dict[str, Any]]:
    """List your bundles, of one name or all, in `docker_image_batch_job_bundles`.

    `order_by` is "newest" or "oldest". An admin lists those of another `owner`, or with `"*"` everybody's.
    """
    query = {"bundle_name": bundle_name, "order_by": order_by, "owner": owner}
    url = url_with(routes.DOCKER_IMAGE_BATCH_JOB_BUNDLES, query)
    return (yield from _get(url))


def create_docker_image_batch_job(
    *,
    labels: dict[str, str] | None = None,
    docker_image_batch_job_bundle: str | None = None,
    docker_image_batch_job_bundle_name: str | None = None,
    job_config: dict[str, Any] | None = None,
    override_job_max_runtime_s: int | None = None,
    **resources: Unpack[ResourceKeywords],
) -> Flow[dict[str, Any]]:
    """Run a bundle's image to its end. Returns at once, `{"job_id": …}`; `wait_for_docker_image_batch_job` waits.

    Args:
        labels: your own names and values.
        docker_image_batch_job_bundle: a bundle's id. Exactly one of this and the next is given.
        docker_image_batch_job_bundle_name: a bundle's name; the newest is taken.
        job_config: JSON, which the container finds at the bundle's `mount_location`.
        override_job_max_runtime_s: seconds after which the job ends as TIMEOUT; else the server's limit.
        **resources: of the job; `openlaunch.client.operations.keywords.ResourceKeywords` describes them.

    Raises:
        NotFound: there is no such bundle.
        TypeError: a keyword is unknown.
        Unprocessable: a value is not allowed.
    """
    document = {
        "docker_image_batch_job_bundle_id": docker_image_batch_job_bundle,
        "docker_image_batch_job_bundle_name": docker_image_batch_job_bundle_name,
        "job_config": job_config,
        "labels": labels or {},
        "resource_requests": given(ResourceKeywords, resources),
        "override_job_max_runtime_s": override_job_max_runtime_s,
    }
    body = checked(CreateDockerImageBatchJobRequest, document)
    return (yield from _json(Request("POST", routes.DOCKER_IMAGE_BATCH_JOBS, json_body(body))))


def get_docker_image_batch_job(batch_job_id: str) -> Flow[dict[str, Any]]:
    """Get the state of a job: `status` (as of batch jobs: PENDING, RUNNING, SUCCESS, …), `status_reason` and more.

    Raises:
        NotFound: there is no such job.
    """
    return (yield from _get(path_to(routes.DOCKER_IMAGE_BATCH_JOBS, batch_job_id)))


def list_docker_image_batch_jobs(
    trigger_id: str | None = None, owner: str | None = None
) -> Flow[list[dict[str, Any]]]:
    """List your last jobs, newest first: all, or those of a trigger.

    An admin lists those of another `owner`, or with `"*"` everybody's.
    """
    url = url_with(routes.DOCKER_IMAGE_BATCH_JOBS, {"trigger_id": trigger_id, "owner": owner})
    answer = yield from _get(url)
    jobs: list[dict[str, Any]] = answer["jobs"]
    return jobs


def read_docker_image_batch_job_logs(batch_job_id: str) -> Flow[str]:
    """Read the last lines that a job's container has printed, also while it runs.

    Raises:
        NotFound: there is no such job.
    """
    url = f"{path_to(routes.DOCKER_IMAGE_BATCH_JOBS, batch_job_id)}/logs"
    response = yield from call(Request("GET", url, idempotent=True))
    return response.body.decode(errors="replace")


def update_docker_image_batch_job(batch_job_id: str, cancel: bool) -> Flow[dict[str, Any]]:
    """Cancel a job: its container is stopped and removed. Returns `{"success": …}`, False if it had ended.

    Raises:
        NotFound: there is no such job.
    """
    url = path_to(routes.DOCKER_IMAGE_BATCH_JOBS, batch_job_id)
    return (yield from _json(Request("PUT", url, json_body({"cancel": cancel}), idempotent=True)))


def wait_for_docker_image_batch_job(batch_job_id: str, timeout: float | None = None) -> Flow[dict[str, Any]]:
    """Wait until a job has succeeded, and return what `get_docker_image_batch_job` does.

    Raises:
        BatchJobFailed: it ended as FAILURE, CANCELLED or TIMEOUT.
        WaitTimeout: it has not ended after `timeout` seconds; it keeps running.
        NotFound: there is no such job.
    """
    path = path_to(routes.DOCKER_IMAGE_BATCH_JOBS, batch_job_id)
    check_seconds(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = POLL_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
        document = yield from _get(url_with(path, {"wait": min(left, POLL_SECONDS)}))
        job = DockerImageBatchJobResponse.model_validate(document)
        if job.status.done:
            if job.status != "SUCCESS":
                reason = f": {job.status_reason}" if job.status_reason else ""
                raise BatchJobFailed(f"job {job.id!r} is {job.status}{reason}")
            return document
        if deadline is not None and time.monotonic() >= deadline:
            raise WaitTimeout(
                f"job {batch_job_id!r} is {job.status} after {timeout:g} seconds; it keeps running"
            )


@takes_owner("name")
def create_trigger(
    *,
    name: str,
    cron_schedule: str,
    bundle_id: str | None = None,
    default_job_config: dict[str, Any] | None = None,
    default_job_metadata: dict[str, str] | None = None,
    endpoint: str | None = None,
    args: dict[str, Any] | None = None,
) -> Flow[dict[str, Any]]:
    """Run a bundle's image, or submit a task to an endpoint, at the times of a cron schedule.

    Returns `{"trigger_id": …}`.

    Args:
        name: letters, digits, `.`, `_` and `-`.
        cron_schedule: minute, hour, day, month and weekday, in UTC: "30 4 * * 1" is Mondays at 4:30.
        bundle_id: of a docker-image batch job bundle, or else `endpoint`.
        default_job_config: the `job_config` of each job.
        default_job_metadata: the labels of each job.
        endpoint: the name of your async endpoint that gets a task each time.
        args: what each task is given, at most 64 KiB as JSON.

    Raises:
        Conflict: you have a trigger of this name.
        NotFound: there is no such bundle or endpoint.
        Unprocessable: the schedule is not one of cron, or the endpoint does not take such tasks.
    """
    document = {
        "name": name,
        "cron_schedule": cron_schedule,
        "bundle_id": bundle_id,
        "default_job_config": default_job_config,
        "default_job_metadata": default_job_metadata,
        "endpoint": endpoint,
        "args": args,
    }
    body = json_body(checked(CreateTriggerRequest, document))
    return (yield from _json(Request("POST", routes.TRIGGERS, body)))


def list_triggers(owner: str | None = None) -> Flow[list[dict[str, Any]]]:
    """List your triggers, newest first; an admin lists those of another `owner`, or with `"*"` everybody's."""
    answer = yield from _get(url_with(routes.TRIGGERS, {"owner": owner}))
    triggers: list[dict[str, Any]] = answer["triggers"]
    return triggers


def get_trigger(trigger_id: str) -> Flow[dict[str, Any]]:
    """Get a trigger; `next_at` is when it fires next.

    Raises:
        NotFound: there is no such trigger.
    """
    return (yield from _get(path_to(routes.TRIGGERS, trigger_id)))


def update_trigger(
    trigger_id: str,
    *,
    cron_schedule: str | None = None,
    suspend: bool | None = None,
    args: dict[str, Any] | None = None,
) -> Flow[dict[str, Any]]:
    """Change a trigger's schedule or args, suspend it, or resume it. Returns `{"success": True}`.

    Raises:
        NotFound: there is no such trigger.
        Unprocessable: the schedule is not one of cron.
    """
    changes = {"cron_schedule": cron_schedule, "suspend": suspend, "args": args}
    body = json_body({name: value for name, value in changes.items() if value is not None})
    return (yield from _json(Request("PUT", path_to(routes.TRIGGERS, trigger_id), body, idempotent=True)))


def delete_trigger(trigger_id: str) -> Flow[dict[str, Any]]:
    """Delete a trigger; its jobs stay, and keep running. Returns `{"success": True}`.

    Raises:
        NotFound: there is no such trigger.
    """
    return (yield from _json(Request("DELETE", path_to(routes.TRIGGERS, trigger_id), idempotent=True)))


def _json(request: Request) -> Flow[dict[str, Any]]:
    return (yield from asked(request, document_of))


def _get(url: str) -> Flow[dict[str, Any]]:
    return _json(Request("GET", url, idempotent=True))
