"""Nodes that workers run on; for admins."""

from openlaunch.client.effects import Flow, Request, json_body, path_to
from openlaunch.client.models import answer, got
from openlaunch.wire import routes
from openlaunch.wire.nodes import ListNodesResponse, ListServersResponse, NodeResponse


def list_nodes() -> Flow[list[NodeResponse]]:
    """List the nodes, for admins: how each stands, and what is free there."""
    return (yield from got(ListNodesResponse, routes.NODES)).nodes


def list_servers() -> Flow[ListServersResponse]:
    """List the servers that share their records, for admins, and what the one that answers has for workers."""
    return (yield from got(ListServersResponse, routes.SERVERS))


def drain_node(node: str, draining: bool = True) -> Flow[NodeResponse]:
    """Move a node's workers to other nodes, and start no further ones there, for admins.

    Each worker serves until another one is ready elsewhere; the node's state is "drained" once none is left.

    Args:
        node: its address or its name.
        draining: False has the node used again.

    Raises:
        NotFound: there is no such node.
        Unavailable: the node is away.
    """
    body = json_body({"draining": draining})
    return (
        yield from answer(NodeResponse, Request("PUT", path_to(routes.NODES, node), body, idempotent=True))
    )


def remove_node(node: str) -> Flow[NodeResponse]:
    """Have the server forget a node that has no worker, for admins.

    A server that starts again uses it again, unless its address is taken out of `OPENLAUNCH_AGENTS`.

    Args:
        node: its address or its name.

    Raises:
        NotFound: there is no such node.
        Conflict: it has workers.
    """
    return (yield from answer(NodeResponse, Request("DELETE", path_to(routes.NODES, node))))
