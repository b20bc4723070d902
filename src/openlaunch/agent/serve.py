"""`openlaunch agent`: puts the parts of a node's agent together."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

import uvloop

from openlaunch.agent.address_file import listening_at
from openlaunch.agent.epoch_file import EpochFile
from openlaunch.agent.node import NodeAgent
from openlaunch.agent.server_link import ServerLink
from openlaunch.background import BackgroundTasks
from openlaunch.log_files import trim
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.server.drivers import cluster_identity, local_engine
from openlaunch.server.logs import RareLog
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.descriptors import raised_limit
from openlaunch.server.operations.listener import Listener, bound_socket
from openlaunch.server.operations.stopping import StopSignals
from openlaunch.server.settings import Settings

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
LONELY_SECONDS = 10.0
"""The shortest time that an agent waits for a server which is to end without one."""
LOOK_SECONDS = 5.0
MAX_LOG_BYTES = 10 * 1024 * 1024
_NO_SERVER = "a connection from %s is not from a server of this cluster: %s"
_PUSHED_OUT = "others came, and it had not said anything"
_NOT_TRUSTED = "it ended the connection at once, as a server does whose cluster's token is another one"
FEW_FILES = 1024
"""With fewer, an agent says so: each worker takes some."""
_FEW = "this process may have %d files open, enough for few workers: raise its limit (ulimit -n, LimitNOFILE)"
MAX_STRANGERS = 64
"""Limit on connections that have not shown that they are servers of the cluster, which those do at once. Past it the
oldest one is closed."""


def serve_agent(settings: Settings, ready: Callable[[str], None], *, until_unused: bool = False) -> None:
    """Own this node's workers until SIGTERM or SIGINT. `ready` is called with HOST:PORT once servers may connect.

    With `until_unused`, end once no server was connected for as long as workers are kept.

    Raises:
        ConfigurationError: the token, the data directory or the port can't be used.
    """
    identity = cluster_identity(settings.cluster_token)
    data = DataDir(settings.data_dir)
    if (files := raised_limit()) < FEW_FILES:
        log.warning(_FEW, files)
    with data.locked(), bound_socket(settings.host, settings.port) as listener:
        uvloop.run(_serve(settings, data, identity, listener, ready, until_unused))


async def _serve(
    settings: Settings,
    data: DataDir,
    identity: ClusterIdentity,
    listener: socket.socket,
    ready: Callable[[str], None],
    until_unused: bool,
) -> None:
    signals = StopSignals()
    epochs = EpochFile(data.epochs)
    agent = NodeAgent(
        local_engine(settings, data), identity, epochs, data.drain_mark, settings.keep_workers_seconds
    )
    agent.start()
    door = Door(agent, listener, identity.agent_context())
    door.start()
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with listening_at(data.agent_address, address):
        ready(address)
        background = BackgroundTasks("an agent could not look after itself")
        if until_unused:
            seconds = max(settings.keep_workers_seconds, LONELY_SECONDS)
            background.spawn(_stop_when_unused(agent, signals.stop, seconds, data))
        await signals.stop.wait()
        log.info("stopping")
        await background.stop()
        door.close()
        await agent.finish(settings.drain_seconds, signals.at_once)
        await agent.close()


async def _stop_when_unused(agent: NodeAgent, stop: asyncio.Event, seconds: float, data: DataDir) -> None:
    """Stop once no server was connected for these seconds; until then, keep the log small."""
    clock = asyncio.get_running_loop().time
    used_at = clock()
    while clock() - used_at < seconds:
        await asyncio.sleep(min(LOOK_SECONDS, seconds / 2))
        if agent.links:
            used_at = clock()
        if data.agent_log.exists():
            trim(data.agent_log, MAX_LOG_BYTES)
    log.info("no server was connected for %g s", seconds)
    stop.set()


class Door:
    """Takes connections of servers, and ends all others."""

    def __init__(self, agent: NodeAgent, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._agent = agent
        self._context = context
        self._listener = Listener(listener, self._take)
        self._opening = BackgroundTasks("a connection of a server could not be opened")
        self._refusals = RareLog(log)
        self._strangers: dict[asyncio.Task[None], None] = {}
        """The oldest one first."""

    def start(self) -> None:
        self._listener.start()

    def _take(self, sock: socket.socket) -> None:
        if len(self._strangers) >= MAX_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()
        stranger = self._opening.spawn(self._open(sock))
        self._strangers[stranger] = None
        stranger.add_done_callback(lambda _: self._opened(stranger, sock))

    def _opened(self, stranger: asyncio.Task[None], sock: socket.socket) -> None:
        self._strangers.pop(stranger, None)
        if stranger.cancelled():  # before its first step: what it was to open is still this one's
            sock.close()

    async def _open(self, sock: socket.socket) -> None:
        """Return once the connection is known as a server's, or closed."""
        peer = "a closed socket"
        try:
            peer = "{}:{}".format(*sock.getpeername()[:2])
            link = ServerLink(self._agent, peer)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link, sock, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, asyncio.CancelledError) as error:
            is_pushed_out = isinstance(error, asyncio.CancelledError)
            reason = _PUSHED_OUT if is_pushed_out else str(error) or _NOT_TRUSTED
            self._refusals.warning("stranger", _NO_SERVER, peer, reason)
            with contextlib.suppress(OSError):
                sock.close()
            return
        try:
            await link.greeted.wait()
        except asyncio.CancelledError:
            link.lose("had not said HELLO when others came")

    def close(self) -> None:
        """Take no further connections."""
        self._listener.close()
        self._opening.cancel()
