"""Work that outlives its server: what it answers is kept here, until another server takes it up.

A server says of a request that it sends under which name others may know it: a stream that can be resumed, a task, or
a request with an Idempotency-Key. When that server is gone, the request runs on for a while. Everything is limited:
what is kept of each, what is kept of all, and for how long.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol

from openlaunch.agent.frame_cutter import Piece
from openlaunch.agent.server_link import ServerLink
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import WorkerSpec
from openlaunch.nodes.calls import Keep
from openlaunch_worker.frames import HEADER, SEAT_IDS, STREAM_WINDOW, Kind

MAX_BYTES: Final = 256 * 1024 * 1024
"""Limit on what is kept of all works; past it those that have ended go first."""
MAX_OWNER_BYTES: Final = MAX_BYTES * 3 // 4
"""Limit on what is kept of the works of one owner's endpoints, so that others have room as well."""
MAX_SECONDS: Final = 86400.0
"""Limit on the time for which a server may ask."""
FRAME_BYTES: Final = 64
"""What a frame takes that is held, beside its own bytes."""
MAX_WORKS: Final = 20_000
"""Limit on the number of works: past it, the oldest that has ended is dropped for each one that ends."""
_KIND_AT: Final = HEADER.size - 1
_ANSWERS = (Kind.RESULT, Kind.END)
_FRAMES = (*_ANSWERS, Kind.CHUNK)
_EVENT_END = b"\n\n"


class Home(Protocol):
    """The worker's connection that the work runs over."""

    spec: WorkerSpec

    def give_up(self, work: "KeptWork") -> None:
        """Cancel the work if it runs and no server has it: none will."""
        ...

    def take_up(self, work: "KeptWork", link: ServerLink) -> None:
        """Have a server get what has come of the work, and what comes from now on."""
        ...


class Reader(Protocol):
    """What gets the frames of work that another server has taken up."""

    def send(self, data: bytes) -> None:
        """Pass bytes on."""
        ...


class KeptWork:
    """One request of a worker, and the frames that have come of it."""

    def __init__(self, keep: Keep, link: ServerLink, home: Home, kept: "KeptWorks") -> None:
        self.name, self.number, self.home = keep.name, keep.number, home
        self.owner = home.spec.owner
        self.link: ServerLink | None = link
        """The server that has it; None: it waits for one."""
        self.runs = self.ended = False
        self.frames: deque[bytes] = deque()
        self.size = 0
        """Bytes that are held."""
        self.dropped = 0
        """How many events of the stream are not held any longer."""
        self.ahead = 0
        """Bytes of CHUNKs for which the worker has no credit yet."""
        self.part = bytearray()
        """What has come of a frame that is not whole yet."""
        self._keep, self._kept = keep, kept
        self._timer: asyncio.TimerHandle | None = None

    def add(self, piece: Piece) -> None:
        """Keep a piece of a frame that the worker sends."""
        if piece.kind not in _FRAMES or (self.link is not None and not self._keep.ended_seconds):
            return
        if piece.begins and piece.ends:
            self._add_frame(piece.kind, piece.data)
        elif not piece.begins and not self.part:
            if piece.ends:
                self._kept.forget(self)  # the server that is gone had the beginning
        else:
            self.part += piece.data
            self._kept.grow(self, len(piece.data))
            if piece.ends:
                frame, self.part = bytes(self.part), bytearray()
                self._kept.grow(self, -len(frame))
                self._add_frame(piece.kind, frame)
            else:
                self._fit(0)

    @property
    def _limit(self) -> int:
        """Bytes that are kept at most. The worker of a stream may be ahead of its client by a window."""
        return self._keep.max_bytes + (2 * STREAM_WINDOW if self.link is None else 0)

    def _add_frame(self, kind: int, frame: bytes) -> None:
        self.frames.append(frame)
        self._kept.grow(self, FRAME_BYTES + len(frame))
        if kind == Kind.CHUNK:
            self.ahead += len(frame) - HEADER.size
        self._fit(0 if kind == Kind.CHUNK else 1)

    def _fit(self, stay: int) -> None:
        """Drop the oldest events until there is room, and everything where the last frames would have to go, too.

        `stay` is how many of them are of no use without each other. Without a server nothing may be dropped.
        """
        while self.size > self._limit or self._kept.is_full(self):
            if self.link is None or len(self.frames) <= stay:
                self._kept.forget(self)
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        frame = self.frames.popleft()
        self._kept.grow(self, -FRAME_BYTES - len(frame))
        self.dropped += frame.count(_EVENT_END, HEADER.size)

    def chunk_bytes(self) -> int:
        """Return the bytes of the CHUNKs that are held."""
        return sum(len(frame) - HEADER.size for frame in self.frames if frame[_KIND_AT] == Kind.CHUNK)

    def end(self) -> None:
        """Note that the answer has come. It is kept for a while, for a server that has not had it, or is lost."""
        self.runs, self.ended = False, True
        if self.link is not None:
            self._forget_after(self._keep.ended_seconds)

    def leave(self) -> None:
        """Wait for another server."""
        self.link = None
        if not self.ended:
            self._forget_after(self._keep.left_seconds)

    def take_up(self, link: ServerLink) -> None:
        """Note that a server has it from now on."""
        self.link = link
        if not self.ended:
            self.stop_waiting()
        elif not self._keep.ended_seconds:
            self._kept.forget(self)

    def _forget_after(self, seconds: float) -> None:
        self.stop_waiting()
        seconds = min(max(0.0, seconds), MAX_SECONDS)
        if seconds:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._kept.forget, self)
        else:
            self._kept.forget(self)

    def stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class KeptWorks:
    """The works of all workers of one set of records, by name. `tell` is called with those that wait for a server."""

    def __init__(self, tell: Callable[[list[str]], None]) -> None:
        self.size = 0
        """Bytes that are held."""
        self._tell = tell
        self._by_name: dict[str, KeptWork] = {}
        self._of_owners: Counter[str] = Counter()
        """Bytes that are held of the works of each owner's endpoints."""

    def add(self, keep: Keep, link: ServerLink, home: Home) -> KeptWork:
        """Keep a request that is about to come, in the place of an earlier one of the same name."""
        if (before := self._by_name.get(keep.name)) is not None:
            self.forget(before)
        work = self._by_name[keep.name] = KeptWork(keep, link, home, self)
        return work

    def left(self) -> list[str]:
        """Return the names of what waits for a server."""
        return [name for name, work in self._by_name.items() if work.link is None]

    def server_of(self, name: str) -> ServerLink | None:
        """Return the server that has a work; None: it waits for one, or there is none of this name."""
        work = self._by_name.get(name)
        return None if work is None else work.link

    def first_ids(self) -> set[int]:
        """Return what the ids of works are above that still run: they are not free for another server."""
        return {work.number & -SEAT_IDS for work in self._by_name.values() if work.runs}

    def leave(self, link: ServerLink) -> None:
        """Have the works of a server wait for another one, because theirs is gone."""
        works = [work for work in self._by_name.values() if work.link is link]
        for work in works:
            work.leave()
        if works:
            self._tell([work.name for work in works])

    def take_up(self, name: str, link: ServerLink) -> None:
        """Have a server get this work; raise `EngineError` where none of this name waits for one."""
        work = self._by_name.get(name)
        if work is None or work.link is not None:
            raise EngineError("no work of this name waits for a server here")
        work.home.take_up(work, link)

    def end(self, work: KeptWork) -> None:
        """Note that the answer of a work has come."""
        work.end()
        if len(self._by_name) > MAX_WORKS:
            self._make_room(work)

    def grow(self, work: KeptWork, size: int) -> None:
        """Note that this number of bytes more is held of a work; below zero: fewer."""
        work.size += size
        self.size += size
        self._of_owners[work.owner] += size
        if not self._of_owners[work.owner]:
            del self._of_owners[work.owner]

    def _make_room(self, but: KeptWork, owner: str | None = None) -> bool:
        works = (each for each in self._by_name.values() if each.ended and each is not but)
        ended = next((each for each in works if owner in (None, each.owner)), None)
        if ended is not None:
            self.forget(ended)
        return ended is not None

    def is_full(self, work: KeptWork) -> bool:
        """Return whether there is no room for this work, after works that have ended have made room for it."""
        owner = work.owner
        while (is_owners := self._of_owners[owner] > MAX_OWNER_BYTES) or self.size > MAX_BYTES:
            if not self._make_room(work, owner if is_owners else None):
                return True
        return False

    def forget(self, work: KeptWork) -> None:
        """Keep a work no longer. One that runs and that no server has is cancelled."""
        work.stop_waiting()
        if self._by_name.get(work.name) is work:
            del self._by_name[work.name]
            self.grow(work, -work.size)
            work.home.give_up(work)
