"""Downloads of files over HTTP that begin where the last try has ended."""

import email.message
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from openlaunch_worker.fetch import Transfer, opener_of

PIECE_BYTES: Final = 1 << 20
STALL_SECONDS: Final = 60.0
"""How long nothing may come before the download is tried again."""
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
TRIES: Final = 6
"""Tries in a row in which nothing comes."""
_AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)

Headers = Callable[[], Mapping[str, str]]
"""Makes the headers of a request anew, because a signature has its time."""


class Failed(Exception):
    """A download can't be done; the message is for the owner."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other places over HTTP alone, and takes no token to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise Failed(f"it leads to {newurl.partition('?')[0][:200]!r}, which is not HTTP")
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            made.remove_header("Authorization")
        return made


def no_headers() -> Mapping[str, str]:
    """Add nothing to a request."""
    return {}


def open_url(url: str, headers: Mapping[str, str]) -> Any:
    """Open a URL. Raise `Failed` where trying again does not help, and OSError where it may."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 -- the schemes were looked at
    try:
        opener = opener_of(Transfer(url), _Redirects, allow_private=True)
        return opener.open(request, timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code in _AGAIN or error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        hint = " (is the token right, and may it read this?)" if error.code in (401, 403) else ""
        raise Failed(f"the answer is {error.code} {error.reason}{hint}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, PermissionError):
            raise Failed(f"it may not be fetched: {error.reason}") from None
        raise


def read_document(url: str, headers: Headers) -> bytes:
    """Return a small document, of a few tries."""
    return _tried(lambda: _read(url, headers))


def _read(url: str, headers: Headers) -> bytes:
    with open_url(url, headers()) as answer:
        data: bytes = answer.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Failed(f"a list of files has over {MAX_DOCUMENT_BYTES} bytes, which is the limit")
    return data


def _tried(work: Callable[[], bytes]) -> bytes:
    for number in range(TRIES):
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            if number == TRIES - 1:
                raise Failed(f"{type(error).__name__}: {error}") from None
            time.sleep(min(8.0, 0.25 * 2**number))
    raise AssertionError


def missing(target: Path, size: int) -> int:
    """Return how many bytes have to come yet of a file of this size."""
    if target.exists():
        return 0
    part = _part_of(target)
    return size - part.stat().st_size if part.exists() else size


def check_room(folder: Path, size: int) -> None:
    """Raise `Failed` if the folder's disk does not have as many bytes free."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise Failed(
            f"{size} bytes are to come, and the disk has {free} free: make room, or use a larger disk"
        )


def _part_of(target: Path) -> Path:
    return target.with_name(f".openlaunch-{target.name}.part")


class Download:
    """One file on its way to its place, beside which what has come so far is kept."""

    def __init__(self, url: str, target: Path, headers: Headers, came: Callable[[int], None]) -> None:
        self._url, self._target, self._headers, self._came = url, target, headers, came
        self._part = _part_of(target)
        self._version = target.with_name(f".openlaunch-{target.name}.version")

    def run(self, digest: str | None = None) -> None:
        """Fetch what is missing, compare it with a SHA-256, and put the file in its place. Raise `Failed`."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._came(self._size())
        tries = 0
        while True:
            before = self._size()
            try:
                self._fetch()
                break
            except (OSError, http.client.HTTPException) as error:
                tries = tries + 1 if self._size() <= before else 1
                if tries == TRIES:
                    raise Failed(f"{type(error).__name__}: {error}") from None
                time.sleep(min(8.0, 0.25 * 2**tries))
        if digest is not None and _digest(self._part) != digest:
            self._part.unlink()
            raise Failed(f"{self._target.name} is not what its SHA-256 says, and was deleted")
        self._part.replace(self._target)
        self._version.unlink(missing_ok=True)

    def _size(self) -> int:
        try:
            return self._part.stat().st_size
        except FileNotFoundError:
            return 0

    def _fetch(self) -> None:
        have, version = self._size(), self._read_version()
        ranged = {"Range": f"bytes={have}-", "If-Range": version} if have and version else {}
        try:
            answer = open_url(self._url, {**self._headers(), "Accept-Encoding": "identity", **ranged})
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._forget(have)
            raise
        with answer:
            if answer.status != http.client.PARTIAL_CONTENT:
                self._forget(have)
                have = 0
            length = answer.headers.get("Content-Length")
            if length is not None:
                check_room(self._target.parent, int(length))
            self._version.write_text(_version_of(answer.headers))
            with self._part.open("ab") as file:
                while piece := answer.read1(PIECE_BYTES):
                    file.write(piece)
                    self._came(len(piece))
                file.flush()
                os.fsync(file.fileno())
        if length is not None and (size := self._size()) != have + int(length):
            raise OSError(f"the answer was cut off at {size} of {have + int(length)} bytes")

    def _forget(self, have: int) -> None:
        self._part.unlink(missing_ok=True)
        self._came(-have)

    def _read_version(self) -> str:
        try:
            return self._version.read_text()
        except FileNotFoundError:
            return ""


def _version_of(headers: email.message.Message) -> str:
    """Return what says that a later answer is of the same file: a strong ETag, or else a date."""
    etag = headers.get("ETag") or ""
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
