"""Takes an HTTP/1.1 response apart as it comes, without I/O: its head, and the bytes of its body."""

import re
from typing import Final

from openlaunch_worker.http_body import BodyError

MAX_HEAD: Final = 64 * 1024
MAX_LINE: Final = 1024
"""Limit on the line before a chunk."""

_PROTOCOL: Final = b"HTTP/1."
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
"""An empty line; small servers leave the carriage returns out."""
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: |\Z)")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*(?:;.*)?")
_FIRST_OF_FINAL: Final = 200
_WITHOUT_BODY: Final = (204, 304)


class ResponseParser:
    """One response to a POST. `status` is 0 until its head has come; `is_done` says that all of it has."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        """By names in lower case; of one that comes several times, the values are joined."""
        self.is_done = False
        self.is_kept = False
        """Whether the connection can have another request once this response is done."""
        self._rest = b""
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that have to come; None: the end of the connection ends the body."""
        self._is_chunked = False
        self._is_behind_chunk = False
        self._is_behind_last = False
        self._is_empty = True

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body that are in this data. Raise `BodyError` where it is not such a response."""
        if not self.status:
            data = self._read_head(data)
            if not self.status:
                return b""
        if self._is_chunked:
            return self._chunks(data)
        return self._plain(data)

    def end(self) -> None:
        """Note that the connection has ended. Raise `BodyError` where the response is not whole."""
        if self.is_done:
            return
        if not self.status:
            if self._rest:
                raise BodyError("its answer was cut short: the connection ended within its head")
            raise BodyError("it had no answer, and may have run: the connection ended before one")
        if self._is_chunked:
            raise BodyError("its answer was cut short: the connection ended before the last chunk")
        if self._left is not None:
            raise BodyError(
                f"its answer was cut short: the connection broke {self._left} bytes before the end"
            )
        if self._is_empty:
            raise BodyError("its answer was cut short: the connection ended before any of the body")
        self.is_done = True

    def _read_head(self, data: bytes) -> bytes:
        """Read the head, where all of it is there; return what is behind it."""
        data = self._rest + data
        while True:
            found = _HEAD_END.search(data)
            head, behind = (data, b"") if found is None else (data[: found.start()], data[found.end() :])
            if len(head) > MAX_HEAD:
                raise BodyError(f"the head of its answer has over {MAX_HEAD} bytes")
            if found is None:
                if data[: len(_PROTOCOL)] != _PROTOCOL[: len(data)]:
                    raise _not_http(data)  # the rest of a head may never come
                self._rest = data
                return b""
            status = self._status_of(head)
            if status >= _FIRST_OF_FINAL:
                break
            data = behind  # an interim answer
        self._rest = b""
        self.status = status
        self._read_framing(is_1_1=head.startswith(b"HTTP/1.1"))
        return behind

    def _status_of(self, head: bytes) -> int:
        first, _, rest = head.partition(b"\n")
        if (status := _STATUS.match(first.removesuffix(b"\r"))) is None:
            raise _not_http(first)
        self.headers.clear()
        for line in rest.decode("latin-1").split("\n") if rest else ():
            name, colon, value = line.partition(":")
            if not colon:
                raise BodyError("its answer has a header without a colon")
            name, value = name.lower(), value.strip()
            known = self.headers.get(name)
            self.headers[name] = value if known is None else f"{known}, {value}"
        return int(status[2])

    def _read_framing(self, *, is_1_1: bool) -> None:
        headers = self.headers
        framing, length = headers.get("transfer-encoding"), headers.get("content-length")
        if framing is not None and framing.lower() != "chunked":
            raise BodyError(f"its answer has the Transfer-Encoding {framing!r}: only chunked is understood")
        connection = headers.get("connection", "" if is_1_1 else "close").lower()
        if self.status in _WITHOUT_BODY:
            self._left = 0
        elif framing is not None:
            self._is_chunked, self._left = True, 0
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise BodyError(f"its answer has the Content-Length {length[:40]!r}")
            self._left = int(length)
        self.is_kept = "close" not in connection and self._left is not None
        self.is_done = self._left == 0 and not self._is_chunked

    def _plain(self, data: bytes) -> bytes:
        if data:
            self._is_empty = False
        if self._left is None:
            return data
        if len(data) > self._left:
            self.is_kept = False  # it has sent what was not asked for
            data = data[: self._left]
        self._left -= len(data)
        self.is_done = self._left == 0
        return data

    def _chunks(self, data: bytes) -> bytes:
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.is_done:
            if self._left:
                end = min(size, at + self._left)
                pieces.append(data[at:end])
                self._left -= end - at
                self._is_behind_chunk = True
                at = end
            elif self._is_behind_chunk:
                if size - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise BodyError("a chunk of its answer is longer than it says")
                self._is_behind_chunk = False
                at += 2
            else:
                end = data.find(b"\r\n", at, at + MAX_LINE)
                if end < 0:
                    if size - at >= MAX_LINE:
                        raise BodyError(
                            f"a line before a chunk of its answer, or behind the last, is over {MAX_LINE} bytes"
                        )
                    break
                self._read_line(data[at:end])
                at = end + 2
        if self.is_done:
            self.is_kept = self.is_kept and at == size
        else:
            self._rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_line(self, line: bytes) -> None:
        """Read the size of the next chunk, or a line behind the last one."""
        if self._is_behind_last:
            self.is_done = not line
            return
        if _SIZE.fullmatch(line) is None:
            raise BodyError(f"a chunk of its answer has the size {line[:40]!r}")
        self._left = int(line.partition(b";")[0], 16)
        self._is_behind_last = not self._left


def _not_http(data: bytes) -> BodyError:
    return BodyError(f"its answer is not HTTP/1.1, it begins with {data[:40]!r}")
