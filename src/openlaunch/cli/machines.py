"""The server, nodes and GPUs in `openlaunch top`, for admins: what is wrong stands first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openlaunch.cli.output import ago
from openlaunch.cli.screen import line, padded, widths
from openlaunch.errors import Unavailable
from openlaunch.wire.quantities import size_text

if TYPE_CHECKING:
    from rich.text import Text

    from openlaunch.client.client import LaunchClient
    from openlaunch.wire.health import Check
    from openlaunch.wire.nodes import GpuResponse, NodeResponse

COLUMNS = ("NODE", "STATE", "WORKERS", "FREE CPUS", "FREE MEMORY", "FREE GPUS")
MIN_NAME = 12
AWAY = "away"
_SAYS = {"warning": "warns", "failed": "has failed"}
_ORDER = (AWAY, "draining", "drained", "ready")


@dataclass(frozen=True, slots=True)
class Machines:
    """The nodes, the GPUs of the server's own machine, and the server's checks that are not ok; any may be none."""

    nodes: Sequence["NodeResponse"] = ()
    gpus: Sequence["GpuResponse"] = ()
    wrong: Sequence["Check"] = ()


def machines_of(client: "LaunchClient") -> Machines:
    """Ask for the nodes and GPUs, as an admin; a server that does not lead knows no nodes."""
    try:
        nodes = client.list_nodes()
    except Unavailable as error:
        if error.code != "not_leading":
            raise
        nodes = []
    server = client.list_servers()
    return Machines(nodes, server.gpu_use, server.wrong)


def check_line(check: "Check") -> str:
    """Say since when a check of the server is not ok, and what it says."""
    since = "" if check.since is None else f"{ago(check.since)}: "
    return f"{since}the server's check {check.name} {_SAYS[check.status.value]}: {check.detail}"


def machine_lines(machines: Machines, width: int, most: int) -> list["Text"]:
    """Return up to `most` lines; where they are too few, the last one counts what is left out."""
    checks = [
        line(check_line(each), "bold red" if each.status.value == "failed" else "yellow")
        for each in machines.wrong
    ]
    lines = [*checks, *_node_lines(machines.nodes, width), *_gpu_lines(machines.gpus, width)]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], line(f"… and {len(lines) - most + 1} more lines of nodes and GPUs", "dim")][
        :most
    ]


def _node_lines(nodes: Sequence["NodeResponse"], width: int) -> list["Text"]:
    if not nodes:
        return []
    ordered = sorted(nodes, key=lambda node: (_ORDER.index(node.state.value), node.address))
    rows = [COLUMNS, *map(_cells, ordered)]
    room = widths(rows, width, MIN_NAME)
    styles = ["dim", *("red" if node.state.value == AWAY else "" for node in ordered)]
    return [line(padded(row, room), style) for row, style in zip(rows, styles, strict=True)]


def _cells(node: "NodeResponse") -> tuple[str, ...]:
    name = f"{node.name} {node.address}" if node.name else node.address
    memory = f"{size_text(node.free_memory)} of {size_text(node.memory)}"
    cpus, gpus = f"{node.free_cpus:g} of {node.cpus:g}", f"{node.free_gpus} of {node.gpus}"
    return name, node.state.value, str(node.workers), cpus, memory, gpus


def _gpu_lines(gpus: Sequence["GpuResponse"], width: int) -> list["Text"]:
    """Put as many GPUs beside each other as fit."""
    texts = [
        f"GPU {gpu.index}: {gpu.utilization:4.0%}, {size_text(gpu.memory_used)} of {size_text(gpu.memory)}"
        for gpu in gpus
    ]
    if not texts:
        return []
    room = max(map(len, texts)) + 3
    beside = max(1, (width + 3) // room)
    rows = [texts[start : start + beside] for start in range(0, len(texts), beside)]
    return [line("".join(text.ljust(room) for text in row).rstrip()) for row in rows]
