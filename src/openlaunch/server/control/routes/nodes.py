"""Nodes that workers run on (`/v1/nodes`), and servers (`/v1/servers`), for admins."""

import asyncio
from datetime import UTC, datetime

from fastapi import Request
from prometheus_client import ProcessCollector

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import NodeInfo
from openlaunch.errors import Conflict, NotFound, Unavailable
from openlaunch.server.control.context import Context
from openlaunch.server.control.metrics_view import times_of
from openlaunch.server.control.routes.callers import Admin
from openlaunch.server.control.routing import ControlRouter
from openlaunch.store.cluster import not_leading
from openlaunch.wire import routes
from openlaunch.wire.health import CheckStatus
from openlaunch.wire.nodes import (
    ChangeNodeRequest,
    GpuResponse,
    ListNodesResponse,
    ListServersResponse,
    NodeResponse,
    NodeState,
    ServerNumbers,
    ServerResponse,
)

NODE = routes.NODES + "/{node}"


def router(context: Context) -> ControlRouter:
    """List nodes, drain them, and forget them; list servers."""
    api = ControlRouter(tags=["nodes"])

    @api.get(routes.NODES)
    async def list_nodes(admin: Admin) -> ListNodesResponse:
        """List the nodes: how each stands, and what is free there."""
        _check_leads(context)
        return ListNodesResponse(nodes=[_response(each) for each in context.controller.nodes.all()])

    @api.put(NODE)
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

    @api.delete(NODE)
    async def remove_node(node: str, admin: Admin) -> NodeResponse:
        """Forget a node that has no worker, until the server starts again with its address."""
        _check_leads(context)
        try:
            return _response(context.controller.nodes.remove(node))
        except LookupError:
            raise _no_node(node) from None
        except EngineError as error:
            raise Conflict(str(error), code="node_has_workers") from None

    @api.get(routes.SERVERS)
    async def list_servers(admin: Admin, request: Request) -> ListServersResponse:
        """List the servers that share the records of this one, and what this one has for workers."""
        has, busy = context.controller.capacity(), await asyncio.to_thread(context.gpus)
        return ListServersResponse(
            servers=await _servers(context, context.urls.base_url(request.scope)),
            cpus=has.cpus,
            memory=has.memory,
            gpus=has.gpus,
            free_gpus=has.free_gpus,
            numbers=_numbers(context),
            wrong=[
                each for each in (await context.health.report()).checks if each.status is not CheckStatus.OK
            ],
            gpu_use=[GpuResponse.model_validate(each, from_attributes=True) for each in busy],
        )

    return api


async def _servers(context: Context, own_url: str) -> list[ServerResponse]:
    if context.cluster is None:
        return [ServerResponse(address=own_url, here=True, leads=True)]
    here = context.cluster.gateway
    found = await context.cluster.servers()
    return [ServerResponse(address=s.address, here=s.gateway == here, leads=s.leads) for s in found]


def _numbers(context: Context) -> ServerNumbers:
    counts = context.counts
    process = {each.name: int(each.samples[0].value) for each in ProcessCollector(registry=None).collect()}
    return ServerNumbers(
        event_loop_lag=times_of(counts.loop_lag),
        commits=times_of(counts.commit_seconds),
        operations=counts.commit_sizes.mean,
        refused=dict(counts.refusals),
        connections=len(context.connections),
        max_connections=context.connections.limit,
        memory=process.get("process_resident_memory_bytes"),
        open_files=process.get("process_open_fds"),
    )


def _check_leads(context: Context) -> None:
    if not context.controller.leads:
        raise not_leading("the nodes")


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
