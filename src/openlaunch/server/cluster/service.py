"""A server of a cluster: its parts, put together."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from openlaunch.server.cluster.feed import Feed
from openlaunch.server.cluster.membership import Membership
from openlaunch.server.cluster.messages import Messages
from openlaunch.store.cluster import Beat, ClusterRecords


class SharedStore(Protocol):
    """A store that says which tables were changed here."""

    on_changed: Callable[[set[str]], None]


class Queue(Protocol):
    """The queue, as far as the end of other servers concerns it."""

    async def take_from_dead(self) -> None: ...
    async def drop_lost(self) -> None: ...


class Leading(Protocol):
    """What the leader alone does."""

    async def start(self, epoch: int) -> None: ...
    async def follow(self, grace: float) -> None: ...
    async def resign(self) -> None: ...


class Cluster:
    """Keeps a server's place among others, and tells them and it what was changed."""

    def __init__(self, records: ClusterRecords) -> None:
        self.messages = Messages(records)
        self.membership = Membership(records)

    async def start(
        self, store: SharedStore, queue: Queue, leading: Leading, feed: Feed, grace: float
    ) -> None:
        """Begin to take part. A server that another one leads after it has `grace` seconds for what it runs."""
        messages, member = self.messages, self.membership
        self._leading, self._feed = leading, feed
        member.on_lead, member.on_follow = leading.start, partial(leading.follow, grace)
        member.on_dead, member.on_taken_for_dead = queue.take_from_dead, queue.drop_lost
        member.on_beat = self._count
        messages.on_changed, messages.on_gap = feed.changed, feed.everything
        messages.on_leader_left = member.look
        store.on_changed = messages.changed
        messages.start()
        feed.start()
        member.start()

    def _count(self, beat: Beat) -> None:
        self.messages.others = beat.others

    async def resign(self) -> None:
        """Have another server lead from now on, because this one stops."""
        await self.membership.end_changes()
        await self._leading.resign()
        await self.membership.resign()
        await self.messages.leader_left()

    async def stop(self) -> None:
        """Hear and send nothing more."""
        await self._feed.stop()
        await self.messages.stop()
