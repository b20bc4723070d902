"""The logs of this node's workers, as servers read and follow them."""

from openlaunch.agent.server_link import ServerLink
from openlaunch.engines.base import LogFollower, Logs
from openlaunch.engines.documents import LogLine
from openlaunch.nodes.calls import Follow, LogRead, Note

MAX_FOLLOWERS = 1000
"""Limit on the logs that are followed at the same time; past it, the one that was begun first ends."""


class AgentLogs:
    """Reads the engine's logs for servers, and follows them under the names that each server gives."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._followers: dict[tuple[ServerLink, str], LogFollower] = {}

    async def note(self, link: ServerLink, note: Note) -> None:
        self._logs.note(note.endpoint_id, note.worker_id, note.text)

    async def read(self, link: ServerLink, asked: LogRead) -> list[LogLine]:
        return await self._logs.read(asked.endpoint_id, asked.part)

    async def follow(self, link: ServerLink, asked: Follow) -> list[LogLine]:
        if len(self._followers) >= MAX_FOLLOWERS:
            self._followers.pop(next(iter(self._followers)))
        follower = self._followers[link, asked.name] = self._logs.follow(asked.endpoint_id)
        return await follower.begin(asked.part)

    async def poll(self, link: ServerLink, name: str) -> list[LogLine]:
        follower = self._followers.get((link, name))
        return [] if follower is None else await follower.poll()

    async def remove(self, link: ServerLink, endpoint_id: str) -> None:
        await self._logs.remove(endpoint_id)

    def leave(self, link: ServerLink) -> None:
        """Follow nothing more for a server that is gone."""
        self._followers = {key: each for key, each in self._followers.items() if key[0] is not link}
