"""Circles of calls that no server of a cluster sees alone: each says what stands still there, if the others' does."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from openlaunch.server.cluster.messages import Messages
from openlaunch.server.dispatch.lanes import Lanes

KEPT_SECONDS = 3.0
"""How long counts what another server has said: one that says nothing any longer has nothing, or is gone."""
ROUNDS = 2
"""How often another server has to have said the same again: one may have been on its way when it was first found."""
MAX_STANDING = 200
MAX_WAITS = 40
"""The most work, and waits of one, that are looked at; other work counts as work that moves."""


class Wait(NamedTuple):
    """What a call waits for: work, or a slot of an endpoint; for a task either, as another server may know."""

    work: str
    endpoint_id: str
    number: int = 0
    """Tells one call from another."""


class Standing(NamedTuple):
    """Work that runs in an endpoint's slot, and stands still if each of its waits does."""

    work: str
    endpoint_id: str
    waits: tuple[Wait, ...]


Found = tuple[str, Wait]
"""A work, and the one of its waits that is to end."""


class Waits:
    """What stands still at all servers of a cluster. Used in the event loop's thread."""

    def __init__(self, messages: Messages, lanes: Lanes) -> None:
        self._messages, self._lanes = messages, lanes
        self._now = asyncio.get_running_loop().time
        self._heard: dict[str, tuple[float, int, list[Standing]]] = {}
        """By server: when it has said something last, in which round, and what."""
        self._first: tuple[set[Standing], dict[str, int]] | None = None
        """The requests that were found to stand still, and the rounds of the servers in which they were found."""
        self._has_said = False
        messages.on_waits = self._hear

    @property
    def gateway(self) -> str:
        """The name of this server among the others."""
        return self._messages.gateway

    @property
    def lanes(self) -> Lanes:
        return self._lanes

    def look(self, own: list[Standing]) -> Found | None:
        """Say what stands still here; return the wait of this server that is to end, if there is one."""
        if not self._messages.others:
            return None
        own = [each for each in own if len(each.waits) <= MAX_WAITS][:MAX_STANDING]
        if own or self._has_said:
            self._messages.waits(own)
        self._has_said = bool(own)
        oldest = self._now() - KEPT_SECONDS
        self._heard = {server: said for server, said in self._heard.items() if said[0] > oldest}
        by_server = {server: said for server, (_, _, said) in self._heard.items()} | {self.gateway: own}
        stuck = self._stuck(each for said in by_server.values() for each in said)
        if not self._is_certain(stuck):
            return None
        names = {each.work for each in stuck}
        found = [
            (server, each.work, wait)
            for server, said in by_server.items()
            for each in said
            if each in stuck
            for wait in each.waits
            if wait.work not in names
        ]
        server, work, wait = max(found)  # the same at all servers, so that one alone ends one
        return (work, wait) if server == self.gateway else None

    def _stuck(self, all_standing: Iterable[Standing]) -> set[Standing]:
        """Return what waits for nothing but each other, and for slots that it holds itself."""
        stuck = {each.work: each for each in all_standing}
        slots = {id_: self._slots(id_) for each in stuck.values() for _, id_, _ in each.waits if id_}
        while True:
            held = Counter(each.endpoint_id for each in stuck.values())
            full = {id_ for id_, most in slots.items() if most is not None and held[id_] >= most}
            moving = [
                name
                for name, each in stuck.items()
                if any(wait.work not in stuck and wait.endpoint_id not in full for wait in each.waits)
            ]
            if not moving:
                return set(stuck.values())
            for name in moving:
                del stuck[name]

    def _slots(self, endpoint_id: str) -> int | None:
        lane = self._lanes.get(endpoint_id)
        return None if lane is None else lane.most_slots()

    def _is_certain(self, stuck: set[Standing]) -> bool:
        """Return whether the same was found before all servers that have some of it have said it again."""
        rounds = {server: number for server, (_, number, _) in self._heard.items()}
        if not stuck or self._first is None or self._first[0] != stuck:
            self._first = (stuck, rounds) if stuck else None
            return False
        return all(
            rounds[server] >= self._first[1].get(server, rounds[server]) + ROUNDS
            for server, (_, _, said) in self._heard.items()
            if not stuck.isdisjoint(said)
        )

    def _hear(self, server: str, document: list[Any], begins: bool) -> None:
        said = [Standing(work, id_, tuple(Wait(*each) for each in waits)) for work, id_, waits in document]
        _, number, before = self._heard.get(server, (0.0, 0, []))
        if begins:
            self._heard[server] = self._now(), number + 1, said
        else:
            before += said[: MAX_STANDING - len(before)]


def by_work(lanes: Lanes) -> Mapping[object, str]:
    """Return the endpoint of all work that runs here."""
    return {work: lane.endpoint.id for lane in lanes for work in lane.running()}
