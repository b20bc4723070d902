"""What servers on one database send each other: tasks that ended or wait, loads, and tables that have changed.

A message only makes its receiver look into the store earlier: one that is lost costs time.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from openlaunch.background import BackgroundTasks
from openlaunch.errors import Unavailable
from openlaunch.server.access.tokens import Account
from openlaunch.store.cluster import ClusterRecords

log = logging.getLogger(__name__)

COLLECT_SECONDS = 0.005
"""How long a message waits for others that go with it."""
MAX_IDS = 200
"""The most tasks of one message: with 8,000 bytes PostgreSQL refuses it."""
MAX_COUNTS = 40
MAX_BYTES = 7000
"""The most of one message of waits, whose entries differ in size."""
MAX_PENDING = 100_000
"""The most tasks that wait to be sent; of more than that the other servers hear by looking into the store."""


class Messages:
    """Collects what others should know, sends it off the path of requests, and hands out what they send."""

    def __init__(self, records: ClusterRecords) -> None:
        self.on_ended: Callable[[list[str]], None] = lambda ids: None
        self.on_waiting: Callable[[str, str, int], None] = lambda endpoint_id, owner, count: None
        self.on_load: Callable[[str, str, int, int], None] = lambda server, endpoint_id, running, waiting: (
            None
        )
        self.on_used: Callable[[Iterable[tuple[str, int]], Iterable[tuple[str, str, int]]], None] = (
            lambda requests, tokens: None
        )
        self.on_waits: Callable[[str, list[Any], bool], None] = lambda server, waits, begins: None
        self.on_removed: Callable[[str], None] = lambda address: None
        self.on_changed: Callable[[set[str]], None] = lambda tables: None
        self.on_leader_left: Callable[[], None] = lambda: None
        self.on_gap: Callable[[], None] = lambda: None
        """Called where messages may have been lost."""
        self.others = 0
        """Other servers that live: without any, nothing is sent of requests and tasks."""
        self._records = records
        self._ended: list[str] = []
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._loads: dict[str, tuple[int, int]] = {}
        self._waits: list[Any] | None = None
        self._removed: list[str] = []
        self._requests: Counter[str] = Counter()
        self._tokens: Counter[Account] = Counter()
        self._changed: set[str] = set()
        self._due = False
        self._background = BackgroundTasks("messages to the other servers could not be sent")
        self._loop = asyncio.get_running_loop()

    @property
    def gateway(self) -> str:
        """The name of this server among the others."""
        return self._records.gateway

    def start(self) -> None:
        """Hear what others send from now on."""
        self._records.listen(self._heard, lambda: self.on_gap())

    async def stop(self) -> None:
        """Send what has been collected, and nothing after it."""
        self.others = 0
        await self._send()
        await self._background.stop()

    def ended(self, ids: Iterable[str]) -> None:
        """Tell the others of tasks that have ended."""
        if self.others and len(self._ended) < MAX_PENDING:
            self._ended += ids
            self._collect()

    def waiting(self, endpoint_id: str, owner: str, count: int) -> None:
        """Tell the others of an owner's new tasks that this server has no slots for."""
        if self.others:
            self._waiting[endpoint_id, owner] += count
            self._collect()

    def load(self, endpoint_id: str, running: int, waiting: int) -> None:
        """Tell the others what this server has running and waiting for an endpoint."""
        if self.others:
            self._loads[endpoint_id] = running, waiting
            self._collect()

    def used(self, requests: Mapping[str, int], tokens: Mapping[Account, int]) -> None:
        """Tell the others of requests, by key, and of tokens, by key and owner, that were used here."""
        if self.others:
            self._requests.update(requests)
            self._tokens.update(tokens)
            self._collect()

    def waits(self, waits: list[Any]) -> None:
        """Tell the others of all calls that stand still here unless theirs move."""
        if self.others:
            self._waits = waits
            self._collect()

    def removed(self, address: str) -> None:
        """Tell the others of a node that is to be used no longer; even one that this server has not heard of yet.

        They do not find it in the store.
        """
        self._removed.append(address)
        self._collect()

    def changed(self, tables: Collection[str]) -> None:
        """Tell the others of tables that were changed. Called in any thread."""
        self._loop.call_soon_threadsafe(self._note_changed, tables)

    def _note_changed(self, tables: Collection[str]) -> None:
        # Even while no other is known of: one that came a moment ago would not know a new key for seconds.
        self._changed.update(tables)
        self._collect()

    async def leader_left(self) -> None:
        """Tell the others that nobody leads now."""
        await self._records.send([self._text({"left": True})])

    def _collect(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_later(COLLECT_SECONDS, lambda: self._background.spawn(self._send()))

    async def _send(self) -> None:
        self._due = False
        texts = [self._text(message) for message in self._taken()]
        try:
            if texts:
                await self._records.send(texts)
        except Unavailable as error:
            log.warning("the other servers hear later of what has changed: %s", error)

    def _taken(self) -> list[dict[str, Any]]:
        ended, self._ended = self._ended, []
        waiting, self._waiting = [[*key, count] for key, count in self._waiting.items()], Counter()
        loads, self._loads = [[key, *load] for key, load in self._loads.items()], {}
        changed, self._changed = sorted(self._changed), set()
        requests, self._requests = list(self._requests.items()), Counter()
        tokens, self._tokens = [[*key, count] for key, count in self._tokens.items()], Counter()
        messages: list[dict[str, Any]] = [{"changed": changed}] if changed else []
        waits, self._waits = self._waits, None
        messages += [] if waits is None else _in_parts(waits)
        removed, self._removed = self._removed, []
        messages += [{"removed": address} for address in removed]
        messages += [{"ended": ended[at : at + MAX_IDS]} for at in range(0, len(ended), MAX_IDS)]
        messages += [{"load": loads[at : at + MAX_COUNTS]} for at in range(0, len(loads), MAX_COUNTS)]
        messages += [{"used": requests[at : at + MAX_COUNTS]} for at in range(0, len(requests), MAX_COUNTS)]
        messages += [{"tokens": tokens[at : at + MAX_COUNTS]} for at in range(0, len(tokens), MAX_COUNTS)]
        return messages + [
            {"waiting": waiting[at : at + MAX_COUNTS]} for at in range(0, len(waiting), MAX_COUNTS)
        ]

    def _text(self, message: dict[str, Any]) -> str:
        return json.dumps({"from": self._records.gateway, **message}, separators=(",", ":"))

    def _heard(self, text: str) -> None:
        message = json.loads(text)
        if message["from"] == self._records.gateway:
            return
        if ids := message.get("ended"):
            self.on_ended(ids)
        for endpoint_id, owner, count in message.get("waiting", ()):
            self.on_waiting(endpoint_id, owner, count)
        for endpoint_id, running, waiting in message.get("load", ()):
            self.on_load(message["from"], endpoint_id, running, waiting)
        if "waits" in message:
            self.on_waits(message["from"], message["waits"], message["begins"])
        if address := message.get("removed"):
            self.on_removed(address)
        if "used" in message or "tokens" in message:
            self.on_used(message.get("used", ()), message.get("tokens", ()))
        if tables := message.get("changed"):
            self.on_changed(set(tables))
        if message.get("left"):
            self.on_leader_left()


def _in_parts(waits: list[Any]) -> list[dict[str, Any]]:
    parts: list[list[Any]] = [[]]
    size = 0
    for each in waits:
        size += len(json.dumps(each))
        if size > MAX_BYTES and parts[-1]:
            parts.append([])
            size = len(json.dumps(each))
        parts[-1].append(each)
    return [{"waits": part, "begins": at == 0} for at, part in enumerate(parts)]
