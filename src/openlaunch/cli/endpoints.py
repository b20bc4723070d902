"""`openlaunch endpoints`."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from openlaunch.cli.completion import Name
from openlaunch.cli.connection import connect
from openlaunch.cli.exits import Exit
from openlaunch.cli.output import Json, emit, emit_rows, fields, note, say_status, waiting, when
from openlaunch.cli.owners import with_owners
from openlaunch.cli.settings import given as given_settings
from openlaunch.cli.settings import with_settings

if TYPE_CHECKING:
    from openlaunch.client.models import ModelEndpoint

app = typer.Typer(help="Model endpoints: bundles that are served.", no_args_is_help=True)

MAX_TAIL_BYTES = 4 * 1024 * 1024
FOLLOW_SECONDS = 0.5
FOLLOW_WAIT_SECONDS = 30.0

Bundle = Annotated[str | None, typer.Option(help="A bundle's id, or its name for the newest one.")]
Kind = Literal["sync", "async", "streaming"]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the endpoint is READY.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")]
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


def _workers(endpoint: "ModelEndpoint") -> str | None:
    state = endpoint.deployment_state
    if state is None:
        return None
    return f"{state.available_workers} ready, {state.min_workers} to {state.max_workers} wanted"


def _batches(endpoint: "ModelEndpoint") -> str | None:
    state = endpoint.deployment_state
    if state is None or state.max_batch_size is None or state.max_batch_wait is None:
        return None
    return f"of up to {state.max_batch_size} requests, waiting up to {state.max_batch_wait * 1000:g} ms"


@app.command("get")
def get_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one endpoint, with its workers and its queue as they are now."""
    with connect(context) as client:
        found = client.get_model_endpoint(name).model_endpoint
    _emit_endpoint(found, as_json)


def _emit_endpoint(endpoint: "ModelEndpoint", as_json: bool) -> None:
    emit(endpoint, as_json, lambda: _describe(endpoint))


def _describe(endpoint: "ModelEndpoint") -> None:
    deployment, resources = endpoint.deployment_state, endpoint.resource_state
    fields(
        (
            ("name", endpoint.name),
            ("id", endpoint.id),
            ("owner", endpoint.created_by),
            ("public", "yes: every key may predict" if endpoint.public_inference else None),
            ("type", endpoint.endpoint_type.value),
            ("status", endpoint.status.value),
            ("reason", endpoint.status_reason),
            ("bundle", f"{endpoint.bundle_name} ({endpoint.bundle_id})"),
            ("serving", _serving(endpoint)),
            ("canary", _canary(endpoint)),
            ("workers", _workers(endpoint)),
            ("per worker", deployment and f"{deployment.concurrent_requests_per_worker} requests"),
            ("timeout", endpoint.timeout_seconds and f"{endpoint.timeout_seconds:g} s for a request"),
            ("batches", _batches(endpoint)),
            ("resources", resources and f"{resources.cpus} cpus, {resources.memory}, {resources.gpus} gpus"),
            ("queued", endpoint.num_queued_items),
            ("outcomes", _outcomes(endpoint)),
            ("labels", ", ".join(f"{k}={v}" for k, v in (endpoint.labels or {}).items()) or None),
            ("created", when(endpoint.created_at)),
            ("changed", when(endpoint.last_updated_at)),
        )
    )


def _serving(endpoint: "ModelEndpoint") -> str | None:
    """Return the bundle that gets the traffic, where it is not the one that is wanted."""
    if endpoint.serving_bundle_id in (None, endpoint.bundle_id):
        return None
    return f"{endpoint.serving_bundle_name} ({endpoint.serving_bundle_id})"


def _canary(endpoint: "ModelEndpoint") -> str | None:
    canary = endpoint.canary
    if canary is None:
        return None
    reason = f": {canary.reason}" if canary.reason else ""
    head = f"{canary.bundle_name} ({canary.bundle_id}), {canary.percent} %, {canary.status.value}{reason}"
    sides = [
        f"{name} {side.workers} workers, {side.requests} requests, {side.failures} failed"
        for name, side in (("canary", canary.canary), ("endpoint", canary.endpoint))
    ]
    return "\n".join([head, *sides])


def _outcomes(endpoint: "ModelEndpoint") -> str | None:
    counts = endpoint.predictions
    if counts is None:
        return None
    windows = (
        ("in the last 5 minutes", counts.last_5_minutes),
        ("in the last hour", counts.last_hour),
        (f"since {when(counts.since)}", counts.since_deploy),
    )
    return "\n".join(f"{c.predictions}, {c.failures} failed, {name}" for name, c in windows)


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
    _emit_endpoint(endpoint.model_endpoint, as_json)


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
    _emit_endpoint(endpoint.model_endpoint, as_json)


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
    _emit_endpoint(endpoint.model_endpoint, as_json)


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
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the canary is SERVING.")] = True,
    timeout: Timeout = 600,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Give a second bundle a share of an endpoint's predictions; with --percent alone, change the share."""
    rule = given_settings(settings)
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
    _emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("promote")
def promote_canary(
    context: typer.Context, name: Name, wait: Wait = True, timeout: Timeout = 600, as_json: Json = False
) -> None:
    """Make the canary's bundle the endpoint's, without an interruption."""
    with connect(context) as client, _deploying(f"promoting the canary of {name} …", name) as update:
        endpoint = client.promote_canary(name)
        if wait:
            endpoint.wait_until_ready(timeout, say_status(update))
    _emit_endpoint(endpoint.model_endpoint, as_json)


@app.command("rollback")
def roll_back_canary(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """End the canary: its running requests may finish, and it gets no new ones."""
    with connect(context) as client:
        endpoint = client.roll_back_canary(name)
    _emit_endpoint(endpoint.model_endpoint, as_json)


def _confirmed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here: give --yes to delete")
    return typer.confirm(f"Delete the endpoint {name}?", err=True)


@app.command("logs")
def show_logs(
    context: typer.Context,
    name: Name,
    creation: Annotated[
        bool, typer.Option(help="Show how the environment was built and the workers started.")
    ] = False,
    tail_bytes: Annotated[
        int, typer.Option(help="Most bytes of the workers' logs to show.", min=1, max=MAX_TAIL_BYTES)
    ] = 65536,
    tail: Annotated[int | None, typer.Option(help="Most lines of the workers' logs to show.", min=0)] = None,
    since: Annotated[
        str | None, typer.Option(help="Show lines from then on: how long ago (90s, 10m, 2h, 1d), or a time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Show lines before that, to page back; written as --since.")
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="Begin each line with its time, in UTC.")
    ] = False,
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Show what an endpoint's workers have printed, newest lines last, each after its worker's id."""
    if follow and until is not None:
        raise typer.BadParameter("--until does not go with --follow")
    with connect(context) as client:
        endpoint = client.get_model_endpoint(name)

        def read() -> str:
            if creation:
                return client.read_endpoint_creation_logs(endpoint)
            return client.read_endpoint_logs(
                endpoint, tail_bytes, lines=tail, since=since, until=until, timestamps=timestamps
            )

        if follow and not creation:
            with client.follow_endpoint_logs(endpoint, tail_bytes, lines=tail, since=since) as lines:
                for line in lines:
                    _print_line(f"{line.at} {line}" if timestamps else str(line), as_json)
            return
        if follow:
            _follow(read, as_json)
        text = read()
    emit({"content": text}, as_json, lambda: print(text, end="" if text.endswith("\n") or not text else "\n"))


def _follow(read: Callable[[], str], as_json: bool) -> NoReturn:
    before: list[str] = []
    while True:
        text = read()
        now = text.removesuffix("\n").split("\n") if text else []
        for line in new_lines(before, now):
            _print_line(line, as_json)
        before = now
        time.sleep(FOLLOW_SECONDS)


def new_lines(before: list[str], now: list[str]) -> list[str]:
    """Return what `now` has beyond the end of `before`; a last line that has grown since is given again.

    The server gives the end of its log, so lines fall off at its head.
    """
    for start in range(len(before)):
        shared = len(before) - start
        if shared > len(now) or before[start:-1] != now[: shared - 1]:
            continue
        if before[-1] == now[shared - 1]:
            return now[shared:]
        if now[shared - 1].startswith(before[-1]):
            return now[shared - 1 :]
    return now


def _print_line(line: str, as_json: bool) -> None:
    print(json.dumps({"line": line}, ensure_ascii=False) if as_json else line, flush=True)


@app.command("events")
def show_events(context: typer.Context, name: Name, follow: Follow = False, as_json: Json = False) -> None:
    """Show what has happened to an endpoint: builds, workers, scaling, roll-outs. Repeated events are counted."""
    with connect(context) as client:
        endpoint = client.get_model_endpoint(name)
        page = client.list_endpoint_events(endpoint)
        if not follow:
            emit_rows(page.events, as_json, ("LAST", "EVENT"), lambda e: (when(e.last_at), e.message))
            return
        while True:
            for event in page.events:
                text = event.model_dump_json() if as_json else f"{when(event.last_at)}  {event.message}"
                print(text, flush=True)
            page = client.list_endpoint_events(endpoint, page.cursor, wait=FOLLOW_WAIT_SECONDS)


@app.command("why")
def explain_endpoint(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show why an endpoint serves or does not: what it waits for, what fails, and when the next attempt is."""
    with connect(context) as client:
        why = client.explain_endpoint(name)
    emit(why, as_json, lambda: print("\n".join(r.message for r in why.reasons)))
