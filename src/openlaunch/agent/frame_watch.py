"""What an agent sees of the frames that it passes on: their heads, and nothing of what is in them."""

from collections.abc import Callable

from openlaunch_worker.frames import HEADER, Kind


class FrameWatch:
    """Follows the frames in one direction of a connection. `seen` is called with each one's kind, id and length."""

    def __init__(self, seen: Callable[[int, int, int], None]) -> None:
        self.head = b""
        """What has come of a head that is not whole."""
        self.missing = 0
        """Bytes that the last frame still lacks."""
        self._seen = seen

    def follow(self, data: bytes) -> None:
        """Go through the bytes that come next."""
        at, size = 0, len(data)
        while at < size:
            if self.missing:
                step = min(self.missing, size - at)
                self.missing -= step
                at += step
                continue
            part = data[at : at + HEADER.size - len(self.head)]
            self.head += part
            at += len(part)
            if len(self.head) == HEADER.size:
                self.missing, request_id, kind = HEADER.unpack(self.head)
                self.head = b""
                self._seen(kind, request_id, self.missing)

    def rest(self) -> bytes:
        """Return bytes that end the frame that has begun: zeros; a head that is cut becomes that of a CANCEL."""
        if not self.head:
            return bytes(self.missing)
        head = bytes(HEADER.size - 1 - len(self.head)) + bytes((Kind.CANCEL,))
        length, _, _ = HEADER.unpack(self.head + head)
        return head + bytes(length)


class WorkerCourse:
    """What a worker's frames have said so far: how far it is, and what runs in it."""

    def __init__(self) -> None:
        self.has_bundle = self.is_ready = self.is_worn = self.ends = self.wants_context = False
        self.running: dict[int, bool] = {}
        """The ids of requests that have no answer yet, and whether each is cancelled."""
        self.last_id = 0
        self.unheard = 0
        """CANCELs that the worker has not answered."""

    @property
    def may_be_kept(self) -> bool:
        """Whether another server can use the worker: it has its bundle, and is not about to end."""
        return self.has_bundle and not self.ends

    def from_server(self, kind: int, request_id: int, length: int) -> None:
        if kind == Kind.REQUEST:
            self.running[request_id] = False
            self.last_id = request_id
        elif kind == Kind.CANCEL:
            self.unheard += 1
            if request_id in self.running:
                self.running[request_id] = True
        elif kind == Kind.BUNDLE:
            self.has_bundle = not length
        elif kind == Kind.DRAIN:
            self.ends = True

    def from_worker(self, kind: int, request_id: int, length: int) -> None:
        if kind in (Kind.RESULT, Kind.END):
            self.running.pop(request_id, None)
        elif kind == Kind.HEARD:
            self.unheard -= 1
        elif kind == Kind.READY:
            self.is_ready = True
        elif kind == Kind.WANTS_CONTEXT:
            self.wants_context = True
        elif kind == Kind.RENEW:
            self.is_worn = True
        elif kind in (Kind.LEAVING, Kind.LOAD_FAILED):
            self.ends = True
