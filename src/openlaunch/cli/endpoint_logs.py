"""`openlaunch endpoints logs` and `events`: what an endpoint's workers print, and what happens to it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from openlaunch.cli.completion import Name
from openlaunch.cli.connection import connect
from openlaunch.cli.exits import plain
from openlaunch.cli.output import Json, as_json_text, as_printed, emit, emit_rows, note, when
from openlaunch.errors import ConnectionFailed, NotFound, StreamInterrupted, Unavailable

if TYPE_CHECKING:
    from openlaunch.client.client import LaunchClient
    from openlaunch.client.endpoints import Endpoint
    from openlaunch.client.logs import LogLine

MAX_TAIL_BYTES = 4 * 1024 * 1024
FOLLOW_SECONDS = 0.5
FOLLOW_WAIT_SECONDS = 30.0
AWAY_SECONDS = 60.0
"""How long --follow waits for a server that stopped."""

T = TypeVar("T")

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C.")]


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
            for line in _followed(client, endpoint, tail=tail_bytes, lines=tail, since=since):
                text = f"{line.at} {line}" if timestamps else str(line)
                _print_line(text, as_json, worker=line.worker, at=line.at, level=line.level)
            return
        if follow:
            _follow(lambda: _outlasting(read), as_json)
        text = read()
    end = "" if text.endswith("\n") or not text else "\n"
    emit({"content": text}, as_json, lambda: print(as_printed(text), end=end))


def _followed(client: "LaunchClient", endpoint: "Endpoint", **part: Any) -> Iterator["LogLine"]:
    """Yield lines as they come until the endpoint is deleted, and those of one place once.

    Each stream ends with the server too; the next one begins where it ended.
    """
    last: list[LogLine] = []
    while True:
        with (
            suppress(StreamInterrupted),
            _outlasting(partial(client.follow_endpoint_logs, endpoint, **part)) as lines,
        ):
            for line in lines:
                if line in last:
                    continue
                last = [*last, line] if last and last[0].at == line.at else [line]
                yield line
        if _outlasting(partial(_is_deleted, endpoint)):
            return
        part = {"since": last[0].at} if last else part
        time.sleep(FOLLOW_SECONDS)


def _is_deleted(endpoint: "Endpoint") -> bool:
    try:
        return endpoint.status() == "DELETE_IN_PROGRESS"
    except NotFound:
        return True


def _outlasting(ask: Callable[[], T]) -> T:
    """Ask again while the server is away, for a bounded time, and say so on stderr."""
    away_since: float | None = None
    while True:
        try:
            answer = ask()
        except (ConnectionFailed, Unavailable) as error:
            if away_since is None:
                away_since = time.monotonic()
                note(f"the server is away, waiting up to {AWAY_SECONDS:g} s for it: {error}")
            elif time.monotonic() - away_since > AWAY_SECONDS:
                raise
            time.sleep(FOLLOW_SECONDS)
            continue
        if away_since is not None:
            note("the server is back")
        return answer


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


def _print_line(line: str, as_json: bool, **about: str) -> None:
    print(as_json_text({"line": line, **about}) if as_json else as_printed(line), flush=True)


def show_recordings(
    context: typer.Context,
    name: Name,
    since: Annotated[
        str | None,
        typer.Option(help="Show what came from then on: how long ago (90s, 10m, 2h, 1d), or a time."),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Show what came before that; written as --since.")] = None,
) -> None:
    """Print what was recorded of an endpoint's requests and answers, oldest first, as JSON lines."""
    with connect(context) as client:
        sys.stdout.buffer.write(client.read_recordings(name, since=since, until=until))


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
                text = (
                    event.model_dump_json() if as_json else plain(f"{when(event.last_at)}  {event.message}")
                )
                print(text, flush=True)
            more = partial(client.list_endpoint_events, endpoint, page.cursor, wait=FOLLOW_WAIT_SECONDS)
            page = _outlasting(more)
