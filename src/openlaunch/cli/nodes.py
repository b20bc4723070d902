"""`openlaunch nodes`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.output import Json, emit, emit_rows, note, when
from openlaunch.wire.quantities import size_text

if TYPE_CHECKING:
    from openlaunch.wire.nodes import NodeResponse

app = typer.Typer(help="Nodes: the machines that workers run on. For admins.", no_args_is_help=True)

Node = Annotated[str, typer.Argument(help="The node's address or name.")]
LOOK_SECONDS = 0.5

_COLUMNS = ("ADDRESS", "NAME", "STATE", "WORKERS", "FREE CPUS", "FREE MEMORY", "FREE GPUS", "SINCE", "REASON")


@app.command("list")
def list_nodes(context: typer.Context, as_json: Json = False) -> None:
    """List the nodes: how each stands, and what is free there."""
    with connect(context) as client:
        found = client.list_nodes()
    emit_rows(found, as_json, _COLUMNS, _row, optional=("NAME", "SINCE", "FREE GPUS"))


def _row(each: "NodeResponse") -> tuple[object, ...]:
    memory = f"{size_text(each.free_memory)}/{size_text(each.memory)}"
    cpus, gpus = f"{each.free_cpus:g}/{each.cpus:g}", f"{each.free_gpus}/{each.gpus}"
    about = (each.address, each.name or None, each.state.value, each.workers)
    return *about, cpus, memory, gpus, when(each.since), each.reason or None


@app.command("drain")
def drain_node(
    context: typer.Context,
    node: Node,
    undo: Annotated[bool, typer.Option("--undo", help="Use the node again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the node has no worker.")] = False,
    as_json: Json = False,
) -> None:
    """Move a node's workers to other nodes, and start no further ones there.

    Each worker serves until another one is ready elsewhere. Its agent remembers that the node is drained.
    """
    with connect(context) as client:
        found = client.drain_node(node, draining=not undo)
        while wait and found.state.value == "draining":
            time.sleep(LOOK_SECONDS)
            found = next(each for each in client.list_nodes() if each.address == found.address)
    emit(found, as_json, lambda: note(f"the node {found.address} is {found.state.value}"))


@app.command("remove")
def remove_node(context: typer.Context, node: Node, as_json: Json = False) -> None:
    """Forget a node that has no worker; take it out of OPENLAUNCH_AGENTS too, for the next start."""
    with connect(context) as client:
        found = client.remove_node(node)
    emit(found, as_json, lambda: note(f"the node {found.address} is forgotten"))
