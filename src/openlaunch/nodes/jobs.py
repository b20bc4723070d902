"""Image jobs on nodes: each runs on one, by its agent, and outlives the server, the agent and their connection."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, TypeVar

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import ContainerError, EngineError, NoRoom
from openlaunch.engines.documents import ContainerState, JobSpec, Resources
from openlaunch.nodes import calls
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import Placement

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger(__name__)

AWAY_SECONDS: Final = 300.0
"""How long a job's node may be away before the job fails: as long as workers are kept by default."""
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a job is, and what it has there in the words of the node's engine."""

    address: str
    held: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job as it is placed: like a worker of an endpoint of its own, which needs no environment."""

    worker_id: str
    resources: Resources
    environment: str = ""
    ahead: int = 0

    @property
    def endpoint_id(self) -> str:
        return self.worker_id


class NodeJobs:
    """Implements `Jobs` by the agents. What `hold` returns names the node, so the next server finds the job."""

    def __init__(self, connections: Connections, placement: Placement, background: BackgroundTasks) -> None:
        self._connections, self._placement, self._background = connections, placement, background
        self._places: dict[str, _Place] = {}

    async def fetch(self, image: str) -> None:
        """Do nothing: the job's node fetches its image before it starts it."""

    async def hold(self, job_id: str, resources: Resources) -> str:
        try:
            node = await self._placement.place(_Asked(job_id, resources))
        except NoRoom as error:
            raise NoRoom(str(error).replace("a worker", "the job", 1)) from None
        self._put(job_id, node.address, "", resources)
        try:
            held = await node.connected().call(calls.HOLD_JOB, calls.HeldJob(job_id, resources))
        except BaseException as error:
            del self._places[job_id]
            node.jobs.pop(job_id, None)
            if isinstance(error, EngineError):  # its node is lost, or has less than it said
                raise NoRoom(str(error)) from error
            raise
        self._put(job_id, node.address, held, resources)
        return f"{node.address} {held}".rstrip()

    def resume(self, job_id: str, held: str, resources: Resources) -> None:
        address, _, of_engine = held.partition(" ")
        if address:
            self._put(job_id, address, of_engine, resources)

    def _put(self, job_id: str, address: str, held: str, resources: Resources) -> None:
        self._places[job_id] = _Place(address, held, resources)
        if (node := self._node_at(address)) is not None:
            node.jobs[job_id] = resources

    def _node_at(self, address: str) -> Node | None:
        return next((node for node in self._connections if node.address == address), None)

    def lead(self, node: Node) -> None:
        """Have a node that begins to obey this server know its jobs, and remove what is left of others."""
        here = self._places.items()
        node.jobs = {job_id: each.resources for job_id, each in here if each.address == node.address}
        self._background.spawn(self._keep(node))

    async def _keep(self, node: Node) -> None:
        held = [
            calls.HeldJob(job_id, each.resources, each.held)
            for job_id, each in self._places.items()
            if each.address == node.address
        ]
        try:
            await node.connected().call(calls.KEEP_JOBS, held)
        except EngineError as error:
            log.warning("the image jobs of the node %s can't be looked after: %s", node.address, error)

    def leave(self) -> None:
        """Leave all jobs to the next server."""
        self._places.clear()
        for node in self._connections:
            node.jobs.clear()

    async def _ask(self, job_id: str, call: calls.Call[A, R], argument: A) -> R:
        """Ask a job's node. Raise `ContainerError` where it is away for long, or can't do that."""
        loop = asyncio.get_running_loop()
        until = loop.time() + AWAY_SECONDS
        while True:
            if (place := self._places.get(job_id)) is None:
                raise ContainerError("the job is another server's by now, or was released")
            node = self._node_at(place.address)
            try:
                if node is None:
                    raise EngineError("it is not one of this server's nodes")
                return await node.connected().call(call, argument)
            except ContainerError:
                raise
            except EngineError as error:
                if loop.time() >= until:
                    text = f"the job's node {place.address} was away for {AWAY_SECONDS:g} s: {error}"
                    raise ContainerError(text) from error
            await asyncio.sleep(LOOK_SECONDS)

    async def start(self, job: JobSpec, held: str) -> None:
        await self._ask(job.id, calls.START_JOB, calls.JobStart(job, self._places[job.id].held))

    async def state(self, job_id: str) -> ContainerState | None:
        if job_id not in self._places:
            return None  # where it is to be is recorded before it is started
        return await self._ask(job_id, calls.JOB_STATE, job_id)

    async def wait(self, job_id: str) -> None:
        if job_id in self._places:
            await self._ask(job_id, calls.WAIT_FOR_JOB, job_id)

    async def logs(self, job_id: str, lines: int) -> list[str]:
        if job_id not in self._places:
            return []
        return await self._ask(job_id, calls.JOB_LINES, calls.JobLines(job_id, lines))

    async def stop(self, job_id: str) -> None:
        if job_id in self._places:
            await self._ask(job_id, calls.STOP_JOB, job_id)

    async def remove(self, *job_ids: str) -> None:
        for job_id in job_ids:
            if job_id in self._places:
                await self._ask(job_id, calls.REMOVE_JOBS, [job_id])

    async def release(self, job_id: str) -> None:
        if (place := self._places.pop(job_id, None)) is None:
            return
        if (node := self._node_at(place.address)) is not None:
            node.jobs.pop(job_id, None)
            try:
                await node.connected().call(calls.RELEASE_JOB, job_id)
            except EngineError as error:
                log.warning("the job %s may hold what it had on the node %s: %s", job_id, node.address, error)

    async def ids(self, records: str = "") -> list[str]:
        """Return none: what is left on a node is removed once it obeys this server."""
        return []
