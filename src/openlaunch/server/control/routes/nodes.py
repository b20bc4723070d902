"""Nodes that workers run on (`/v1/nodes`), for admins."""

from datetime import UTC, datetime

from openlaunch.engines.base import EngineError, NodeInfo
from openlaunch.errors import Conflict, NotFound, Unavailable
from openlaunch.server.control.routes.context import Admin, Context
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.nodes import ChangeNodeRequest, ListNodesResponse, NodeResponse, NodeState


def router(context: Context) -> ControlRouter:
    """List nodes, drain them, and forget them."""
    api = ControlRouter(prefix=routes.NODES, tags=["nodes"])

    @api.get("")
    async def list_nodes(admin: Admin) -> ListNodesResponse:
        """List the nodes: how each stands, and what is free there."""
        _check_leads(context)
        return ListNodesResponse(nodes=[_response(each) for each in context.controller.nodes()])

    @api.put("/{node}")
    async def change_node(node: str, body: ChangeNodeRequest, admin: Admin) -> NodeResponse:
        """Drain a node, named by its address or name, or use it again.

        Each worker there serves until another one is ready elsewhere. The agent remembers that it is drained.
        """
        _check_leads(context)
        try:
            return _response(await context.controller.drain_node(node, draining=body.draining))
        except LookupError:
            raise _no_node(node) from None
        except EngineError as error:
            raise Unavailable(str(error), code="node_away", retry_after=1) from None

    @api.delete("/{node}")
    async def remove_node(node: str, admin: Admin) -> NodeResponse:
        """Forget a node that has no worker, until the server starts again with its address."""
        _check_leads(context)
        try:
            return _response(context.controller.remove_node(node))
        except LookupError:
            raise _no_node(node) from None
        except EngineError as error:
            raise Conflict(str(error), code="node_has_workers") from None

    return api


def _check_leads(context: Context) -> None:
    if not context.controller.leads:
        raise Unavailable(
            "another server of the cluster leads, and has the nodes", code="not_leading", retry_after=1
        )


def _no_node(node: str) -> NotFound:
    return NotFound(f"no single node has the address or name {node!r}", code="node_not_found")


def _response(node: NodeInfo) -> NodeResponse:
    has, used = node.capacity, node.used
    state = NodeState.READY
    if node.problem:
        state = NodeState.AWAY
    elif has.draining:
        state = NodeState.DRAINING if node.workers else NodeState.DRAINED
    return NodeResponse(
        address=node.address,
        name=node.name,
        state=state,
        reason=node.problem,
        since=datetime.fromtimestamp(node.since, UTC),
        workers=node.workers,
        cpus=has.cpus,
        memory=has.memory,
        gpus=has.gpus,
        free_cpus=max(0.0, has.cpus - used.cpus),
        free_memory=max(0, has.memory - used.memory),
        free_gpus=has.free_gpus,
    )
