"""`openlaunch triggers`."""

from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.image_jobs import find_bundle
from openlaunch.cli.inputs import Args, arguments, json_object
from openlaunch.cli.output import Json, emit, emit_rows, fields, of_document, when
from openlaunch.cli.owners import with_owners

app = typer.Typer(
    help="Image jobs, or tasks of an async endpoint, at the times of a cron schedule.", no_args_is_help=True
)

TriggerId = Annotated[str, typer.Argument(help="The trigger's id.")]


@app.command("create")
def create_trigger(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The trigger's name.")],
    schedule: Annotated[
        str, typer.Argument(help="Minute, hour, day, month and weekday, in UTC, such as '30 4 * * 1'.")
    ],
    bundle: Annotated[
        str | None,
        typer.Argument(
            help="The id of a bundle of image jobs, or its name for the newest one; or else --endpoint."
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The name of an async endpoint that gets a task each time.")
    ] = None,
    args: Args = None,
    config: Annotated[str | None, typer.Option(help="The jobs' configuration, a JSON object.")] = None,
    as_json: Json = False,
) -> None:
    """Run a bundle's image, or submit a task to an endpoint, at the times of a schedule. Prints the trigger's id.

    For example `openlaunch triggers create nightly '30 4 * * *' --endpoint report --args '{"day": "yesterday"}'`.
    """
    if (bundle is None) == (endpoint is None):
        raise typer.BadParameter("give a BUNDLE, whose image is run, or --endpoint, which gets a task")
    if endpoint is None and args:
        raise typer.BadParameter("--args are for --endpoint: image jobs have --config")
    with connect(context) as client:
        made = client.create_trigger(
            name=name,
            cron_schedule=schedule,
            bundle_id=None if bundle is None else find_bundle(client, bundle),
            default_job_config=None if config is None else json_object(config, "--config"),
            endpoint=endpoint,
            args=_json_args(args),
        )
    emit(made, as_json, lambda: print(made["trigger_id"]))


@app.command("list")
def list_triggers(context: typer.Context, as_json: Json = False) -> None:
    """List your triggers, newest first."""
    with connect(context) as client:
        found = client.list_triggers()
    columns, row = with_owners(context, ("NAME", "ID", "SCHEDULE", "NEXT", "OF"), _row, itemgetter("owner"))
    emit_rows(found, as_json, columns, row)


def _json_args(texts: list[str] | None) -> dict[str, Any] | None:
    """Return the args of a trigger's tasks, which are JSON alone: no file is read when their time comes."""
    found = arguments(texts) if texts else None
    if any(isinstance(value, Path) for value in (found or {}).values()):
        raise typer.BadParameter("a trigger keeps JSON, and no file: give its URL", param_hint="--args")
    return found


def _row(trigger: dict[str, Any]) -> tuple[object, ...]:
    next_at = when(trigger["next_at"]) or "suspended"
    of = trigger["endpoint"] or trigger["docker_image_batch_job_bundle_id"]
    return trigger["name"], trigger["id"], trigger["cron_schedule"], next_at, of


@app.command("get")
def get_trigger(context: typer.Context, trigger_id: TriggerId, as_json: Json = False) -> None:
    """Show one trigger, and what came of its last time; `openlaunch image-jobs list --trigger ID` shows its jobs."""
    with connect(context) as client:
        found = client.get_trigger(trigger_id)
    emit(found, as_json, lambda: fields(of_document(found)))


@app.command("update")
def update_trigger(
    context: typer.Context,
    trigger_id: TriggerId,
    schedule: Annotated[str | None, typer.Option(help="A new schedule.")] = None,
    suspend: Annotated[
        bool | None, typer.Option("--suspend/--resume", help="Suspend the trigger, or resume it.")
    ] = None,
    args: Args = None,
    as_json: Json = False,
) -> None:
    """Change a trigger's schedule, suspend it, or resume it; or change the args of its tasks."""
    with connect(context) as client:
        done = client.update_trigger(
            trigger_id, cron_schedule=schedule, suspend=suspend, args=_json_args(args)
        )
    emit(done, as_json, lambda: print("changed"))


@app.command("delete")
def delete_trigger(context: typer.Context, trigger_id: TriggerId, as_json: Json = False) -> None:
    """Delete a trigger; its jobs and tasks stay, and those that run continue."""
    with connect(context) as client:
        done = client.delete_trigger(trigger_id)
    emit(done, as_json, lambda: print("deleted"))
