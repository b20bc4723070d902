"""`openlaunch endpoints`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from openlaunch.cli.completion import Name
from openlaunch.cli.connection import connect
from openlaunch.cli.endpoint_description import emit_endpoint
from openlaunch.cli.endpoint_logs import show_events, show_logs, show_recordings
from openlaunch.cli.exits import Exit
from openlaunch.cli.output import (
    Json,
    emit,
    emit_rows,
    fields,
    is_long_ago,
    note,
    of_document,
    oldest_line,
    say_status,
    trouble_line,
    waiting,
    when,
)
from openlaunch.cli.owners import with_owners
from openlaunch.cli.settings import given as given_settings
from openlaunch.cli.settings import with_settings

if TYPE_CHECKING:
    from openlaunch.client.models import ModelEndpoint
    from openlaunch.wire.metrics import EndpointTotals
    from openlaunch.wire.workers import WorkerResponse

app = typer.Typer(help="Model endpoints: bundles that are served.", no_args_is_help=True)

Bundle = Annotated[str | None, typer.Option(help="A bundle's id, or its name for the newest one.")]
Kind = Literal["sync", "async", "streaming"]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the endpoint is READY.")]
Timeout = Annotated[float, typer.Option(help="Longest time to wait, in seconds.", min=0)]


def _deploying(text: str, name: str) -> AbstractContextManager[Callable[[str], None]]:
    return waiting(text, f"openlaunch endpoints get {name}")


@app.command("list")
def list_endpoints(
    context: typer.Context,
    public: Annotated[
        bool, typer.Option("--public", help="List the public endpoints of all owners instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List your endpoints, newest first. A public endpoint of another owner is called by `OWNER/NAME`."""
    with connect(context) as client:
        found = [endpoint.model_endpoint for endpoint in client.list_model_endpoints(public=public)]
    names = ("NAME", "TYPE", "STATUS", "WORKERS", "QUEUED", "BUNDLE", "REASON")
    columns, row = with_owners(context, names, _row, attrgetter("created_by"), public)
    emit_rows(found, as_json, columns, row, optional=("BUNDLE", "QUEUED", "WORKERS"))


def _row(endpoint: "ModelEndpoint") -> tuple[object, ...]:
    e = endpoint
    kind, status, state = e.endpoint_type.value, e.status.value, e.deployment_state
    workers = state and f"{state.available_workers} ({state.min_workers} to {state.max_workers})"
    return e.name, kind, status, workers, e.num_queued_items, e.bundle_name, e.status_reason


@app.command("get")
def get_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one endpoint, with its workers and its queue as they are now."""
    with connect(context) as client:
        found = client.get_model_endpoint(name).model_endpoint
    emit_endpoint(found, as_json)


@app.command("create")
@with_settings()
def create_endpoint(
    context: typer.Context,
    name: Name,
    bundle: Annotated[str, typer.Option(help="A bundle's id, or its name for the newest one.")],
    kind: Annotated[Kind, typer.Option("--type", help="How predictions are sent and answered.")] = "sync",
    wait: Wait = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Serve a bundle under a name."""
    with connect(context) as client, _deploying(f"creating {name} …", name) as update:
        endpoint = client.create_model_endpoint(
            endpoint_name=name, model_bundle=bundle, endpoint_type=kind, **given_settings(settings)
        )
        if wait:
            endpoint.wait_until_ready(timeout, say_status(update))
    emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("edit")
@with_settings(changing=True)
def edit_endpoint(
    context: typer.Context,
    name: Name,
    bundle: Bundle = None,
    wait: Wait = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Change the given settings; new workers replace the old ones only once they are ready."""
    changes = given_settings(settings) | ({} if bundle is None else {"model_bundle": bundle})
    if not changes:
        raise typer.BadParameter("nothing to change is given; --help lists what can be")
    with connect(context) as client, _deploying(f"changing {name} …", name) as update:
        endpoint = client.edit_model_endpoint(model_endpoint=name, **changes)
        if wait:
            endpoint.wait_until_ready(timeout, say_status(update))
    emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("delete")
def delete_endpoint(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete an endpoint: running requests may finish, waiting ones are refused."""
    with connect(context) as client:
        endpoint = client.get_model_endpoint(name)
        if not yes and not _confirmed(name):
            raise typer.Exit(Exit.FAILED)
        client.delete_model_endpoint(endpoint)
    emit({"name": name, "deleting": True}, as_json, lambda: note(f"endpoint {name} is being deleted"))


@app.command("stop")
def stop_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Stop all workers of an endpoint: sets its smallest and largest number of workers to 0."""
    with connect(context) as client:
        state = client.get_model_endpoint(name).model_endpoint.deployment_state
        stopped = client.edit_model_endpoint(model_endpoint=name, min_workers=0, max_workers=0).model_endpoint
    text = f"endpoint {name} is stopped: predictions are refused, and tasks wait"
    emit(stopped, as_json, lambda: note(text))
    if state is not None and state.max_workers:
        options = f"--min-workers {state.min_workers} --max-workers {state.max_workers}"
        note(f"start it again with: openlaunch endpoints edit {name} {options}")


@app.command("hand-over")
def hand_over_endpoint(
    context: typer.Context,
    name: Name,
    new_owner: Annotated[str, typer.Argument(help="The new owner.")],
    as_json: Json = False,
) -> None:
    """Make another owner the endpoint's, with a copy of its bundle; for admins."""
    with connect(context) as client:
        endpoint = client.hand_over_model_endpoint(name, new_owner)
    emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("restart")
def restart_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Replace all workers of an endpoint by new ones, without an interruption."""
    with connect(context) as client:
        restarting = client.restart_model_endpoint(name)
    text = f"the workers of endpoint {name} are being replaced"
    emit({"name": name, "restarting": restarting}, as_json, lambda: note(text))


@app.command("canary")
@with_settings(
    "rollback_after_failures",
    "probation_requests",
    defaults={
        "rollback_after_failures": "the endpoint's, else 5",
        "probation_requests": "the endpoint's, else 20",
    },
)
def canary_of_endpoint(
    context: typer.Context,
    name: Name,
    bundle: Bundle = None,
    percent: Annotated[
        int | None,
        typer.Option(
            help="The canary's share of the predictions, in percent.  [default: 10 for a new canary]",
            min=0,
            max=100,
        ),
    ] = None,
    first_item_seconds: Annotated[
        float | None,
        typer.Option(
            help="A stream whose first item, such as a token, comes later is a failure of the canary."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the canary is SERVING.")] = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Give a second bundle a share of an endpoint's predictions; with --percent alone, change the share."""
    rule = given_settings(settings)
    if first_item_seconds is not None:
        rule["first_item_seconds"] = first_item_seconds
    if bundle is None and (percent is None or rule):
        raise typer.BadParameter("give --bundle to start a canary, or --percent alone to change its share")
    with connect(context) as client, _deploying(f"starting the canary of {name} …", name):
        if bundle is None:
            assert percent is not None
            endpoint = client.set_canary_percent(name, percent)
        else:
            share = 10 if percent is None else percent
            endpoint = client.start_canary(name, bundle, share, **rule)
            if wait:
                endpoint = client.wait_for_canary(endpoint, timeout)
    emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("promote")
def promote_canary(
    context: typer.Context, name: Name, wait: Wait = True, timeout: Timeout = 600, as_json: Json = False
) -> None:
    """Make the canary's bundle the endpoint's, without an interruption."""
    with connect(context) as client, _deploying(f"promoting the canary of {name} …", name) as update:
        endpoint = client.promote_canary(name)
        if wait:
            endpoint.wait_until_ready(timeout, say_status(update))
    emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("rollback")
def roll_back_canary(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """End the canary: its running requests may finish, and it gets no new ones."""
    with connect(context) as client:
        endpoint = client.roll_back_canary(name)
    emit_endpoint(endpoint.model_endpoint, as_json)


def _confirmed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: give --yes to delete")
    return typer.confirm(f"Delete the endpoint {name}?", err=True)


app.command("logs")(show_logs)
app.command("recordings")(show_recordings)
app.command("events")(show_events)


@app.command("workers")
def list_workers(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """List an endpoint's workers: where each stands and since when, what it runs, and on which node."""
    with connect(context) as client:
        found = client.list_endpoint_workers(name)
    columns = ("WORKER", "PHASE", "SINCE", "STARTED", "RUNNING", "GENERATION", "NODE", "REASON")
    emit_rows(found, as_json, columns, _worker_row, optional=("STARTED", "GENERATION"))


def _worker_row(each: "WorkerResponse") -> tuple[object, ...]:
    times = when(each.since), when(each.started_at)
    running = f"{each.running}/{each.slots}"
    return each.worker, each.phase.value, *times, running, each.generation, each.node or None, each.reason


@app.command("numbers")
def show_numbers(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show all that the server has counted of an endpoint since it started."""
    with connect(context) as client:
        found = client.get_endpoint_metrics(name).since_start
    emit(found, as_json, lambda: fields(_numbers(found)))


def _numbers(found: "EndpointTotals") -> Iterator[tuple[str, object]]:
    for name, each in found.times.items():
        if each.count:
            yield (
                name.replace("_", " "),
                f"{each.count}, mean {each.mean:.3g} s, p50 {each.p50:.3g} s, p99 {each.p99:.3g} s",
            )
    if found.batches.count:
        yield "batches", f"{found.batches.count}, of {found.batches.mean_size:.3g} predictions on average"
    yield from of_document(found.model_dump(exclude={"times", "batches"}))


@app.command("why")
def explain_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show why an endpoint serves or does not: what it waits for, what fails, and when the next attempt is."""
    with connect(context) as client:
        why = client.explain_endpoint(name)
    lines = [*(reason.message for reason in why.reasons), *map(trouble_line, why.troubles)]
    if why.oldest_task_at is not None and is_long_ago(why.oldest_task_at):
        lines.append(oldest_line(why.oldest_task_at))
    emit(why, as_json, lambda: print("\n".join(lines)))
