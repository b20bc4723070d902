"""Places workers by Ray: a placement group of one bundle holds what each was given, and an agent of ours runs it.

Ray is on no request's path. While it is away, workers run on, bundles that are reserved are used, and what is beyond
them is placed as without Ray on the nodes that are known. Once it is back, what runs is reserved.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import NoRoom
from openlaunch.engines.documents import Resources
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.node import Node, read_nodes
from openlaunch.nodes.placement import FewestWorkers, Placed, words
from openlaunch.nodes.ray_bundles import (
    Bundle,
    Bundles,
    Place,
    Seen,
    bundle_of,
    shape_of,
    shape_of_bundle,
)
from openlaunch.nodes.ray_process import RayAway, RayProcess

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
CALL_SECONDS = 3.0
"""Ray is away if it does not answer in this time; its own detection takes a minute."""
ROOM_SECONDS = 0.5
"""How long a start waits for room, before it is said that it waits."""
FIRST_SECONDS = 10.0
"""How long a server that starts waits for Ray and the agents on its nodes."""
AGENT_SECONDS = 120.0
AGENT_PAUSE_SECONDS = 5.0
MAX_AGENT_STARTS = 8
"""How many agents are started at the same time."""
NODE_ID_LABEL = "ray.io/node-id"


class RayPlacement:
    """Implements `Placement` by Ray's scheduler. Used in the event loop's thread only.

    `known` is a file that has the nodes, for a server that starts while Ray is away.
    """

    elastic = True

    def __init__(self, records: str, token: str, known: Path) -> None:
        self._ray = RayProcess()
        self._prefix = f"openlaunch-{records}-"
        self._bundles = Bundles(self._prefix)
        self._agents = RayAgents(self._ray, token, known)
        self._fewest = FewestWorkers()
        self._answers = False
        self._background = BackgroundTasks("what Ray has could not be looked at")

    async def begin(self, nodes: Connections) -> None:
        self._nodes = nodes
        await self._fewest.begin(nodes)
        await self._agents.begin(nodes)
        self._ray.start()
        looked = asyncio.Event()
        self._background.spawn(self._watch(looked))
        if self._agents.usable():
            return  # what runs there needs no Ray
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await looked.wait()
                await self._agents.wait()
        except TimeoutError:
            log.warning("Ray's nodes can't be used yet: %s", self.problems() or "agents are being started")

    async def _watch(self, looked: asyncio.Event) -> None:
        while True:
            try:
                await self._look()
                self._answers = True
                looked.set()
            except RayAway:
                self._answers = False
            except Exception:
                log.exception("what Ray has could not be looked at; trying again")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen = await self._ray.call("look", CALL_SECONDS, prefix=self._prefix)
        self._agents.see(seen["nodes"])
        if self._nodes.epoch is None:
            return
        groups = [
            Seen(each["name"], shape_of_bundle(each["bundle"]), each["node"]) for each in seen["groups"]
        ]
        running, now = self._running(), loop.time()
        self._bundles.compare(groups, running, began, now)
        await self._give_back(self._bundles.unused(running, self._agents.unusable(), now))
        for worker_id in self._bundles.lacking(running):
            await self._pin(worker_id, running[worker_id])

    async def _give_back(self, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            self._bundles.remove(bundle)
            await self._ray.call("remove", CALL_SECONDS, name=bundle.name)

    def _running(self) -> dict[str, Place]:
        return {
            worker_id: Place(ray_id, shape_of(given))
            for ray_id, node in self._agents.nodes.items()
            for worker_id, given in node.held.items()
        }

    async def _pin(self, worker_id: str, place: Place) -> None:
        """Reserve what a worker has that runs already."""
        now = asyncio.get_running_loop().time()
        bundle = self._bundles.add(place.shape, now, worker_id=worker_id, pinned=True)
        bundle.node = await self._reserve(bundle, {NODE_ID_LABEL: place.node}, 0.0)

    async def _reserve(self, bundle: Bundle, labels: Mapping[str, str], seconds: float) -> str:
        node: str = await self._ray.call(
            "reserve",
            CALL_SECONDS + seconds,
            name=bundle.name,
            bundle=bundle_of(bundle.shape),
            labels=labels,
            seconds=seconds,
        )
        return node

    async def place(self, spec: Placed) -> Node:
        shape, usable = shape_of(spec.resources), self._agents.usable()
        bundle = self._bundles.free(shape, usable, self._running())
        if bundle is None:
            bundle = await self._reserved(spec.endpoint_id, spec.resources, spec.ahead)
        if bundle is None:
            return await self._fewest.place(spec)
        bundle.worker_id, bundle.used_at = spec.worker_id, asyncio.get_running_loop().time()
        return self._agents.nodes[bundle.node]

    async def ask(self, endpoint_id: str, resources: Resources) -> None:
        with suppress(NoRoom):
            await self._reserved(endpoint_id, resources)

    async def _reserved(self, endpoint_id: str, resources: Resources, ahead: int = 0) -> Bundle | None:
        """Return a bundle on a node that can be used; raise `NoRoom` while there is none.

        Give None while Ray is away, or waits for a node that hangs.
        """
        if not self._answers or not self._ray.is_there:
            return None
        try:
            return await self._reserve_for(endpoint_id, resources, ahead)
        except RayAway as error:
            log.warning("Ray %s: a worker is placed without it", error)
            return None
        except NoRoom:
            if not self._agents.is_one_lost():
                raise
            return None

    async def _reserve_for(self, endpoint_id: str, resources: Resources, ahead: int) -> Bundle:
        now, room, shape = asyncio.get_running_loop().time(), words(resources), shape_of(resources)
        if (waited_for := self._bundles.waited_for(endpoint_id, shape, ahead)) is not None:
            waited_for.used_at = now
            raise NoRoom(self._waits_for(room, waited_for))
        seconds = 0.0 if self._bundles.is_scarce(shape) else ROOM_SECONDS
        avoid = self._agents.unusable()
        bundle = self._bundles.add(shape, now, endpoint_id=endpoint_id, avoids=avoid)
        labels = {NODE_ID_LABEL: f"!in({','.join(sorted(avoid))})"} if avoid else {}
        bundle.node = await self._reserve(bundle, labels, seconds)
        bundle.used_at = asyncio.get_running_loop().time()
        if bundle.node not in (usable := self._agents.usable()):
            # What nobody holds may be what fills the cluster, with bundles of other sizes.
            await self._give_back(self._bundles.idle(usable, self._running()))
            raise NoRoom(self._waits_for(room, bundle))
        return bundle

    def _waits_for(self, room: str, bundle: Bundle) -> str:
        if bundle.node:
            return f"a worker waits for the agent of the node {self._agents.host(bundle.node)}"
        return f"a worker waits for {room} on the cluster"

    def problems(self) -> dict[str, str]:
        away = self._ray.problem or ("" if self._answers else "does not answer")
        return ({"Ray": away} if away else {}) | self._agents.problems()

    async def close(self) -> None:
        await self._background.stop()
        await self._agents.close()
        await self._ray.close()


class RayAgents:
    """The agents of Ray's nodes: has one started on each node that lacks one, and remembers where they are."""

    def __init__(self, ray: RayProcess, token: str, known: Path) -> None:
        self.nodes: dict[str, Node] = {}
        """By Ray's id of each node."""
        self._ray, self._token, self._known = ray, token, known
        self._hosts: dict[str, str] = {}
        """The nodes that Ray has, by id."""
        self._failed: dict[str, str] = {}
        """Why no agent could be started on a node."""
        self._tried_at: dict[str, float] = {}
        self._places = asyncio.Semaphore(MAX_AGENT_STARTS)
        self._starting = BackgroundTasks("an agent could not be started")

    async def begin(self, nodes: Connections) -> None:
        """Connect to the agents that were known last."""
        self._all = nodes
        stored = json.loads(self._known.read_text()) if self._known.exists() else {}
        for ray_id, (address, *share) in stored.items():
            (node,) = read_nodes(address)
            node.share = Resources(*share)
            self.nodes[ray_id] = node
        await asyncio.gather(*(nodes.add(node) for node in self.nodes.values()))

    def see(self, seen: list[dict[str, Any]]) -> None:
        """Take over which nodes Ray has, and begin to start agents where there is none."""
        self._hosts = {each["id"]: each["host"] for each in seen}
        self._failed = {ray_id: why for ray_id, why in self._failed.items() if ray_id in self._hosts}
        for each in seen:
            ray_id, has = each["id"], each["resources"]
            share = Resources(has.get("CPU", 0.0), int(has.get("memory", 0)), int(has.get("GPU", 0)))
            if (node := self.nodes.get(ray_id)) is not None and node in list(self._all):
                node.share = share
                if node.link is not None:
                    continue
            self._begin_start(ray_id, each["host"], share)
        for ray_id in self.nodes.keys() - self._hosts.keys():
            self._forget(ray_id)

    def _begin_start(self, ray_id: str, host: str, share: Resources) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._tried_at.get(ray_id, -AGENT_SECONDS) >= AGENT_PAUSE_SECONDS:
            self._tried_at[ray_id] = now + AGENT_SECONDS
            self._starting.spawn(self._start(ray_id, host, share))

    async def _start(self, ray_id: str, host: str, share: Resources) -> None:
        try:
            async with self._places:
                address = await self._ray.call(
                    "start", AGENT_SECONDS, node=ray_id, host=host, token=self._token
                )
            (found,) = read_nodes(f"{host}:{address.rpartition(':')[2]}")
            await self._use(ray_id, found, share)
            self._failed.pop(ray_id, None)
        except (RayAway, ValueError) as error:
            if str(error) != self._failed.get(ray_id):
                log.warning("no agent could be started on the node %s: %s", host, error)
            self._failed[ray_id] = f"has no agent: {error}"
        finally:
            self._tried_at[ray_id] = asyncio.get_running_loop().time()

    async def _use(self, ray_id: str, found: Node, share: Resources) -> None:
        same = [node for node in self._all if node.address == found.address]
        node = same[0] if same else found
        node.share = share
        before = self.nodes.get(ray_id)
        self.nodes = {each: at for each, at in self.nodes.items() if at is not node} | {ray_id: node}
        if before is not None and before is not node and before in list(self._all) and not before.workers:
            self._all.forget(before)
        if not same:
            await self._all.add(node)
        self._remember()

    def _forget(self, ray_id: str) -> None:
        """Forget a node that Ray no longer has, unless its agent still serves."""
        node = self.nodes[ray_id]
        if node.link is None and not node.workers:
            del self.nodes[ray_id]
            if node in list(self._all):
                self._all.forget(node)
            self._remember()

    def _remember(self) -> None:
        stored = {
            ray_id: (node.address, node.share.cpus, node.share.memory, node.share.gpus)
            for ray_id, node in self.nodes.items()
            if node.share is not None
        }
        new = self._known.with_suffix(".new")
        new.write_text(json.dumps(stored))
        new.replace(self._known)

    def usable(self) -> set[str]:
        """Return the nodes whose agents take workers."""
        return {ray_id for ray_id, node in self.nodes.items() if node.is_usable}

    def is_one_lost(self) -> bool:
        """Return whether a node that Ray has does not answer.

        Ray may reserve nothing at all until it knows of that too, which takes one or two minutes.
        """
        return any(
            self.nodes[ray_id].link is None
            for ray_id in self.nodes.keys() & self._hosts.keys() - self._failed.keys()
        )

    def unusable(self) -> frozenset[str]:
        """Return the nodes that Ray has and that can't be used; those that are new are not among them."""
        tried = self._failed.keys() | self.nodes.keys()
        return frozenset(tried & self._hosts.keys() - self.usable())

    def host(self, ray_id: str) -> str:
        return self._hosts.get(ray_id, ray_id)

    def problems(self) -> dict[str, str]:
        return {self.host(ray_id): why for ray_id, why in self._failed.items()}

    async def wait(self) -> None:
        """Wait until the starts that are under way have ended."""
        while self._starting:  # noqa: ASYNC110 -- once, at the start
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self._starting.stop()
