"""The logs of workers on nodes, which are on the nodes and are read together."""

import logging
import secrets

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink
from openlaunch.nodes.connections import Connections

log = logging.getLogger(__name__)


class NodeLogs:
    """Implements `Logs` by the agents of the nodes that are connected."""

    def __init__(self, connections: Connections, background: BackgroundTasks) -> None:
        self._connections = connections
        self._background = background

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        link = self._connections.link_to(worker_id)
        links = [link] if link is not None else self._links()[:1]
        for each in links:
            self._background.spawn(self._note(each, calls.Note(endpoint_id, worker_id, text)))

    async def _note(self, link: AgentLink, note: calls.Note) -> None:
        try:
            await link.call(calls.NOTE, note)
        except EngineError as error:
            log.warning("a line for a worker's log was lost: %s", error)

    def _links(self) -> list[AgentLink]:
        return [link for _, link in self._connections.links()]

    async def read(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        asked = calls.LogRead(endpoint_id, part)
        lines = _in_order([await link.call(calls.READ_LOGS, asked) for link in self._links()])
        return lines[max(0, len(lines) - part.most_lines) :]

    def follow(self, endpoint_id: str) -> "NodesFollower":
        return NodesFollower(self._links(), endpoint_id)

    async def remove(self, endpoint_id: str) -> None:
        for link in self._links():
            await link.call(calls.REMOVE_LOGS, endpoint_id)


class NodesFollower:
    """Follows an endpoint's logs on every node that was connected at the beginning."""

    def __init__(self, links: list[AgentLink], endpoint_id: str) -> None:
        self._links = links
        self._endpoint_id = endpoint_id
        self._name = secrets.token_hex(8)

    async def begin(self, part: LogPart) -> list[LogLine]:
        follow = calls.Follow(self._name, self._endpoint_id, part)
        return _in_order([await link.call(calls.FOLLOW, follow) for link in self._links])

    async def poll(self) -> list[LogLine]:
        return _in_order([await link.call(calls.POLL, self._name) for link in self._links])


def _in_order(parts: list[list[LogLine]]) -> list[LogLine]:
    if len(parts) == 1:
        return parts[0]
    return sorted((line for lines in parts for line in lines), key=lambda line: line.at)
