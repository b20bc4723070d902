"""`openlaunch image-jobs`."""

from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.inputs import json_object, pairs
from openlaunch.cli.output import Json, emit, emit_rows, fields, of_document, waiting, when
from openlaunch.cli.owners import with_owners

if TYPE_CHECKING:
    from openlaunch import LaunchClient

app = typer.Typer(help="Container images that run to their end.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="The job's id.")]
Pairs = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given several times.")]


@app.command("bundle")
def create_bundle(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The bundle's name; one that exists gets a new version.")],
    image: Annotated[str, typer.Argument(help="REPOSITORY:TAG.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Command to run instead of the image's entry point; write it after --."),
    ] = None,
    env: Pairs = None,
    mount_location: Annotated[
        str | None, typer.Option(help="File inside the container that holds a job's configuration.")
    ] = None,
    cpus: Annotated[str | None, typer.Option(help="Cores of a job, such as 2 or 500m.  [default: 1]")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of a job in bytes, such as 4Gi.  [default: 2Gi]")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a job.  [default: 0]", min=0)] = None,
    as_json: Json = False,
) -> None:
    """Define what jobs run: an image, its command and environment. Prints the bundle's id."""
    repository, _, tag = image.rpartition(":")
    if not repository or "/" in tag:
        raise typer.BadParameter(f"the image is {image!r}: REPOSITORY:TAG is needed, such as busybox:1.36")
    with connect(context) as client:
        made = client.create_docker_image_batch_job_bundle(
            name=name,
            image_repository=repository,
            image_tag=tag,
            command=command or [],
            env=pairs(env, "--env"),
            mount_location=mount_location,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
        )
    emit(made, as_json, lambda: print(made["docker_image_batch_job_bundle_id"]))


@app.command("run")
def run_job(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(help="The bundle's id, or its name for the newest one.")],
    config: Annotated[str | None, typer.Option(help="The job's configuration, a JSON object.")] = None,
    label: Pairs = None,
    timeout: Annotated[
        int | None,
        typer.Option(help="Longest run time of the job, in seconds.  [default: the server's limit]", min=1),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait, and print its log.")] = True,
    as_json: Json = False,
) -> None:
    """Run a bundle's image to its end, and print what it printed. `--no-wait` prints the job's id."""
    job_config = None if config is None else json_object(config, "--config")
    labels = pairs(label, "--label")
    with connect(context) as client:
        made = client.create_docker_image_batch_job(
            labels=labels,
            docker_image_batch_job_bundle=find_bundle(client, bundle),
            job_config=job_config,
            override_job_max_runtime_s=timeout,
        )
        job_id = made["job_id"]
        if not wait:
            emit({"job_id": job_id}, as_json, lambda: print(job_id))
            return
        with waiting(f"waiting for job {job_id} …", f"openlaunch image-jobs get {job_id}"):
            job = client.wait_for_docker_image_batch_job(job_id)
        text = client.read_docker_image_batch_job_logs(job_id)
    emit(job | {"log": text}, as_json, lambda: print(text, end=""))


def find_bundle(client: "LaunchClient", bundle: str) -> str:
    """Return the id of a bundle that is given by id or by name; of a name's the newest."""
    if bundle.startswith("dib_"):
        return bundle
    found: str = client.get_latest_docker_image_batch_job_bundle(bundle)["id"]
    return found


@app.command("list")
def list_jobs(
    context: typer.Context,
    trigger: Annotated[str | None, typer.Option(help="Only jobs of the trigger with this id.")] = None,
    as_json: Json = False,
) -> None:
    """List your last jobs, newest first."""
    with connect(context) as client:
        jobs = client.list_docker_image_batch_jobs(trigger)
    names = ("JOB", "STATUS", "CREATED", "COMPLETED", "REASON")
    columns, row = with_owners(context, names, _row, itemgetter("owner"))
    emit_rows(jobs, as_json, columns, row, optional=("COMPLETED", "CREATED"))


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    reason = (job["status_reason"] or "").partition("\n")[0]
    return job["id"], job["status"], when(job["created_at"]), when(job["completed_at"]), reason


@app.command("get")
def get_job(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Show a job's status."""
    with connect(context) as client:
        job = client.get_docker_image_batch_job(job_id)
    emit(job, as_json, lambda: fields(of_document(job)))


@app.command("logs")
def print_logs(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Print the last lines that a job's container has printed, also while it runs."""
    with connect(context) as client:
        text = client.read_docker_image_batch_job_logs(job_id)
    emit({"log": text}, as_json, lambda: print(text, end=""))


@app.command("cancel")
def cancel_job(context: typer.Context, job_id: JobId, as_json: Json = False) -> None:
    """Cancel a job: its container is stopped and removed."""
    with connect(context) as client:
        cancelled = client.update_docker_image_batch_job(job_id, cancel=True)["success"]
    emit({"cancelled": cancelled}, as_json, lambda: print("cancelled" if cancelled else "it had ended"))
