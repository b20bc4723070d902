"""The process that downloads URLs into an owner's cache.

Its arguments are the cache, the most bytes that may come, and a file with the URLs, a list in JSON: the query of one
may be a secret, and others can read a command line. It prints a line of JSON about every half
second, and the reason if it fails. Tokens come from the environment: `HF_TOKEN`, `AWS_ACCESS_KEY_ID` and
`AWS_SECRET_ACCESS_KEY`.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from openlaunch_worker import buckets, hub_repositories
from openlaunch_worker.prefetch_urls import BUCKETS, Source, masked, shown, source_of
from openlaunch_worker.resuming import Download, Failed, check_room, no_headers

TELL_SECONDS: Final = 0.5
READY: Final = ".openlaunch-ready"
"""Files below this folder of a cache say which places are complete, and when they were last used."""


def say(line: str) -> None:
    """Print a line for the server."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Progress:
    """Adds up what has come of one URL, and prints it."""

    def __init__(self, source: Source, cache: Path, max_bytes: int) -> None:
        self._url, self._cache, self._max = shown(source.url), cache, max_bytes
        self._total = self._done = 0
        self._told_at = 0.0

    def expect(self, size: int, to_come: int = 0) -> None:
        """Note how many bytes there will be. Raise `Failed` if the cache may not have as many, or has no room.

        `to_come` are those of them that are not there yet, where that is known.
        """
        self._total = size
        self._check(size)
        check_room(self._cache, to_come)
        self._tell(now=True)

    def came(self, size: int) -> None:
        self._done += size
        self._check(self._done)
        self._tell()

    def _check(self, size: int) -> None:
        if self._max and size > self._max:
            raise Failed(f"it has {size} bytes, and the whole cache of an owner may have {self._max}")

    def _tell(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told_at > TELL_SECONDS:
            self._told_at = time.monotonic()
            say(json.dumps({"url": self._url, "done": self._done, "total": max(self._total, self._done)}))


def fetch(cache: Path, source: Source, max_bytes: int) -> None:
    """Have a URL's files in the cache. Raise `Failed`."""
    progress = Progress(source, cache, max_bytes)
    with _alone(cache, source):
        if source.scheme == "hf":
            hub_repositories.fetch(cache, source, progress)
        elif is_ready(cache, source):
            return
        elif source.scheme in BUCKETS:
            buckets.fetch(cache, source, progress)
        else:
            progress.expect(0)
            Download(source.url, cache / source.place, no_headers, progress.came).run()
        mark_ready(cache, source)


@contextmanager
def _alone(cache: Path, source: Source) -> Iterator[None]:
    """Wait for another process that fetches the same."""
    marker = marker_of(cache, source)
    marker.parent.mkdir(parents=True, exist_ok=True)
    with marker.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_ready(cache: Path, source: Source) -> bool:
    """Return whether all of a URL is there."""
    try:
        return marker_of(cache, source).read_text() == masked(source.url) and (cache / source.place).exists()
    except OSError:
        return False


def mark_ready(cache: Path, source: Source) -> None:
    """Note that all of a URL is there, and was used now."""
    marker_of(cache, source).write_text(masked(source.url))


def marker_of(cache: Path, source: Source) -> Path:
    """Return the file that says that a URL's files are there."""
    return cache / READY / source.place.replace("%", "%25").replace("/", "%2F")[-200:]


def main() -> int:
    """Fetch each URL, and return the exit code."""
    cache, max_bytes = Path(sys.argv[1]), int(sys.argv[2])
    os.umask(0o077)
    for url in json.loads(Path(sys.argv[3]).read_text()):
        try:
            fetch(cache, source_of(url), max_bytes)
        except (Failed, OSError, ValueError) as error:
            say(f"{shown(url)} could not be fetched: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
