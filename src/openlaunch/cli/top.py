"""`openlaunch top`: what all endpoints do now, with what is wrong on top."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect, options_of
from openlaunch.cli.machines import Machines, check_line, machine_lines, machines_of
from openlaunch.cli.output import Json, emit_rows, is_long_ago, oldest_line, trouble_line
from openlaunch.cli.screen import line, padded, widths
from openlaunch.errors import ConnectionFailed, TooManyRequests, Unavailable
from openlaunch.wire.keys import ALL_OWNERS, Role

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from openlaunch.client.client import LaunchClient
    from openlaunch.wire.metrics import EndpointSummary

QUIT_KEYS, ESCAPE = b"qQ", b"\x1b"
"""Escape counts alone: with it begin arrows and other keys."""

COLUMNS = ("NAME", "STATUS", "RATE/S", "FAIL/S", "P50", "P99", "WORKERS", "RUNNING", "QUEUE")
PRINTED_COLUMNS = (*COLUMNS, "TROUBLE")
NARROW_COLUMNS = ("NAME", "STATUS", "RATE/S", "FAIL/S", "P50", "P99", "WORK", "RUN", "QUEUE")
FRAME_LINES = 3
"""The lines around the table: a head, what is left out, and the foot."""
MACHINES_PART = 3
"""The part of the screen's lines that nodes and GPUs may have: a third."""
NARROW, MIN_NAME = 80, 8

READY = "READY"

_STATUS = {"UPDATE_FAILED": "FAILED", "UPDATE_PENDING": "PENDING", "UPDATE_IN_PROGRESS": "STARTING"}


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print what there is now, and end.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.5, max=60)] = 2.0,
    as_json: Json = False,
) -> None:
    """Watch the last minute of all endpoints, what is wrong on top; q ends it.

    Where the output is not a terminal, they are printed once.
    """
    with connect(context) as client:
        everybody = options_of(context).owner == ALL_OWNERS

        def row(summary: "EndpointSummary") -> tuple[str, ...]:
            return _cells(summary, everybody)

        if once or as_json or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
            found, machines = _look(client)()
            emit_rows(found, as_json, PRINTED_COLUMNS, lambda s: (*row(s), _trouble(s)), ("RUNNING", "P50"))
            for check in machines.wrong:
                print(check_line(check), file=sys.stderr)
        else:
            _watch(_look(client), row, client.url, interval)


def _look(client: "LaunchClient") -> "Look":
    """Return what asks for all that is shown: an admin sees the nodes and GPUs, too."""
    who = cache(client.whoami)
    return lambda: (client.list_metrics(), machines_of(client) if who().role is Role.ADMIN else Machines())


def _cells(summary: "EndpointSummary", everybody: bool) -> tuple[str, ...]:
    s = summary
    name = f"{s.owner}/{s.name}" if everybody else s.name
    status = _STATUS.get(s.status, s.status)
    counts = (str(count) for count in (s.workers, s.running, s.waiting))
    return name, status, _rate(s.rate), _rate(s.failure_rate), _time(s.p50), _time(s.p99), *counts


def _trouble(summary: "EndpointSummary") -> str:
    return "; ".join(_reasons(summary)) or "-"


def _rate(a_second: float) -> str:
    return f"{a_second:.0f}" if a_second >= 100 else f"{a_second:.2f}" if a_second else "0"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g}ms" if seconds < 0.9995 else f"{seconds:.3g}s"


Row = Callable[["EndpointSummary"], tuple[str, ...]]
Look = Callable[[], tuple[list["EndpointSummary"], Machines]]


def _watch(look: Look, row: Row, server: str, interval: float) -> None:
    """Show endpoints and machines until a key says to end; a server that can no longer be reached is asked again."""
    from rich.console import Console
    from rich.live import Live

    shown, machines = look()  # where none can be reached, other commands say it so, too
    console, problem = Console(), ""
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            deadline = time.monotonic() + interval
            while (left := deadline - time.monotonic()) > 0:
                # Not what the environment says: that does not change with the terminal.
                columns, lines = os.get_terminal_size(sys.stdout.fileno())
                console.size = columns or 80, lines or 24
                live.update(_screen(console, shown, machines, row, server, problem), refresh=True)
                if pressed(min(left, 1)):  # drawn each second, because the terminal may have another size
                    return
            try:
                (shown, machines), problem = look(), ""
            except (ConnectionFailed, Unavailable, TooManyRequests) as error:
                problem = str(error)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Give what waits up to a time for a key that ends the command; the terminal is as before at the end."""
    keyboard = sys.stdin.fileno()
    if not os.isatty(keyboard):
        yield _no_key
        return
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)

    def pressed(seconds: float) -> bool:
        if not select.select([keyboard], [], [], seconds)[0]:
            return False
        keys = os.read(keyboard, 64)
        return not keys or keys == ESCAPE or any(key in QUIT_KEYS for key in keys)

    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _screen(
    console: "Console",
    found: Sequence["EndpointSummary"],
    machines: Machines,
    row: Row,
    server: str,
    problem: str,
) -> "Group":
    from rich.console import Group

    width, height = console.size
    below = machine_lines(machines, width, height // MACHINES_PART)
    lines, left_out = _rows(found, row, width, max(1, height - FRAME_LINES - len(below)))
    if not found:
        lines = [line("There are no endpoints yet: openlaunch deploy my_model.py:predict", "dim")]
    more = line(f"… and {left_out} more, with less trouble" if left_out else "", "dim")
    foot = line(f"{problem} It is tried again.", "bold red") if problem else line("q ends this", "dim")
    return Group(_head(found, server), *lines, more, *below, foot)


def _head(found: Sequence["EndpointSummary"], server: str) -> "Text":
    wrong = sum(has_trouble(summary) for summary in found)
    rate, failures = sum(s.rate for s in found), sum(s.failure_rate for s in found)
    endpoints = "1 endpoint" if len(found) == 1 else f"{len(found)} endpoints"
    counts = f"{endpoints}, {wrong} in trouble, {_rate(rate)}/s, {_rate(failures)} failures/s"
    return line(f"{time.strftime('%H:%M:%S')}  {counts}  {server}", "bold")


def has_trouble(summary: "EndpointSummary") -> bool:
    """Tell whether an endpoint fails, or does not serve as it should."""
    return summary.failure_rate > 0 or summary.status != READY or bool(summary.troubles)


def _rows(found: Sequence["EndpointSummary"], row: Row, width: int, most: int) -> tuple[list["Text"], int]:
    """Return up to `most` lines, and how many endpoints are not in them; reasons are lines below their endpoint."""
    cells = [COLUMNS if width > NARROW else NARROW_COLUMNS, *(row(summary) for summary in found)]
    room = widths(cells, width, MIN_NAME)
    lines = [line(padded(cells[0], room), "dim")]
    for number, (summary, each) in enumerate(zip(found, cells[1:], strict=True)):
        of_one = [line(padded(each, room), _style(summary))]
        of_one += [line(f"  {reason}", "dim") for reason in _reasons(summary)]
        if len(lines) + len(of_one) > most:
            return lines, len(found) - number
        lines += of_one
    return lines, 0


def _reasons(summary: "EndpointSummary") -> Iterator[str]:
    """Yield what is wrong and since when, or else what the status is for."""
    yield from map(trouble_line, summary.troubles)
    if summary.oldest_task_at is not None and is_long_ago(summary.oldest_task_at):
        yield oldest_line(summary.oldest_task_at)
    if not summary.troubles and summary.status_reason and summary.status != READY:
        yield summary.status_reason


def _style(summary: "EndpointSummary") -> str:
    return "red" if summary.failure_rate else "yellow" if has_trouble(summary) else ""
