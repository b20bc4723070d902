"""Channels from one server to another: what a server can't answer goes to the one that leads, or has the stream."""

from openlaunch.agent.server_link import ServerLink
from openlaunch.engines.base import EngineError
from openlaunch.nodes.calls import Keep
from openlaunch.nodes.link import Kind
from openlaunch_worker.frames import FrameError

MAX_BRIDGES = 256
"""Limit on those of one server."""


class _End:
    """One server's end: what comes from it goes to the other one."""

    def __init__(self, link: ServerLink) -> None:
        self.link = link
        self.number = 0
        self.other: _End
        self._early = 0
        """Pauses from before the other end was open."""

    def receive(self, data: bytes) -> None:
        self.other.link.send_data(self.other.number, data)

    def closed(self) -> None:
        self.other.link.close_channel(self.other.number)

    lost = closed

    def pause(self) -> None:
        if self.other.number:
            self.other.link.send(Kind.PAUSE, self.other.number)
        else:
            self._early += 1

    def opened(self) -> None:
        """Note that the other end is open."""
        for _ in range(self._early):
            self.pause()

    def resume(self) -> None:
        self.other.link.send(Kind.RESUME, self.other.number)

    def drain(self) -> None:
        raise FrameError("a DRAIN over a channel to a server")

    def given(self, tokens: int) -> None:
        raise FrameError("tokens over a channel to a server")

    def keep(self, keep: Keep) -> None:
        raise FrameError("a KEEP over a channel to a server")


def bridge(asker: ServerLink, asked: ServerLink | None, client: str) -> int:
    """Join two servers for what this client has asked, and return the number of the asker's channel."""
    if asked is None or asked is asker:
        raise EngineError("that server is not connected here")
    if sum(isinstance(end, _End) for end in asker.channels.values()) >= MAX_BRIDGES:
        raise EngineError(f"the server has {MAX_BRIDGES} requests at others already")
    here, there = _End(asker), _End(asked)
    here.other, there.other = there, here
    try:
        here.number = asker.open_channel(here, {"other": True})
        there.number = asked.open_channel(there, {"client": client})
    except FrameError as error:
        asker.close_channel(here.number)
        raise EngineError(str(error)) from None
    here.opened()
    there.opened()
    return here.number
