"""Recordings: a sample of an endpoint's requests and answers, kept as JSON lines in artifacts."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter

import orjson

from openlaunch.artifacts.base import Artifact, Artifacts
from openlaunch.background import BackgroundTasks
from openlaunch.errors import NotFound, Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.work import Work
from openlaunch.store import endpoints
from openlaunch.store.base import Store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoint_settings import RecordSettings
from openlaunch.wire.times import stamp_of
from openlaunch_worker.frames import Body, Flags, Outcome

log = logging.getLogger(__name__)

FOLDER = "recordings"
MAX_LINE_BYTES = 1024 * 1024
"""A request and its answer that together are larger are recorded without them."""
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""What may wait to be stored, of all endpoints; what comes beyond is left out, and counted in the log."""
FILE_BYTES = 4 * 1024 * 1024
STORE_SECONDS = 30.0
STOPPED_SECONDS = 60.0
"""How long nothing is recorded where artifacts could not be written."""
EXPIRE_SECONDS = 3600.0
MAX_STREAMS = 1000
"""Streams of an endpoint whose items are gathered at once."""
DAY = 24 * 3600.0
_AT = b'{"at":"'
"""How a line begins."""

USUAL = RecordSettings()
"""How long recordings stay whose endpoint does not record now."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request with its answer, as they came."""

    at: float
    name: str
    owner: str
    outcome: int
    input: bytes
    answer: bytes
    is_stream: bool
    is_whole: bool

    @property
    def size(self) -> int:
        return len(self.input) + len(self.answer) + 500

    def encoded(self) -> bytes:
        """Return the line."""
        kind, _, name = self.name.partition(" ")
        has_items = self.is_stream and not self.answer.startswith(
            b"{"
        )  # else it passed through, and came whole
        answer = _items(self.answer) if has_items else _document(self.answer)
        document = {
            "at": stamp_of(_moment(self.at)),
            kind: name,
            "owner": self.owner,
            "outcome": Outcome(self.outcome).name,
            **({"input": _document(self.input), "answer": answer} if self.is_whole else {"left_out": True}),
        }
        return orjson.dumps(document) + b"\n"


class Sampler:
    """Picks a share of one endpoint's predictions."""

    def __init__(self, share: float, keep: Callable[[Line], None]) -> None:
        self._share = share
        self._keep = keep
        self._streams: dict[Work, bytearray | None] = {}

    def piece(self, work: Work, data: Body) -> None:
        """Gather a piece of a stream, if that is picked."""
        if work not in self._streams:
            if len(self._streams) >= MAX_STREAMS:  # such as those whose workers died
                del self._streams[next(iter(self._streams))]
            self._streams[work] = bytearray() if self._is_picked() else None
        pieces = self._streams[work]
        if pieces is not None and len(pieces) <= MAX_LINE_BYTES:
            pieces += data

    def answered(self, work: Work, outcome: int, payload: Body, *, is_stream: bool) -> None:
        """Record a request with its answer, if it is picked; to be called before the work ends."""
        known = work in self._streams
        pieces = self._streams.pop(work, None)
        if outcome == Outcome.CANCELLED or (pieces is None and (known or not self._is_picked())):
            return
        size = len(work.body) + len(payload) + len(pieces or b"")
        is_json = outcome not in (Outcome.PICKLED, Outcome.BINARY) and not work.flags & Flags.PARTS
        is_whole = size <= MAX_LINE_BYTES and is_json
        answer = bytes((pieces or b"") + payload) if is_whole else b""
        given = bytes(work.body) if is_whole else b""
        self._keep(Line(clock.now(), work.name, work.owner, outcome, given, answer, is_stream, is_whole))

    def _is_picked(self) -> bool:
        return random.random() < self._share


class Recordings:
    """All endpoints' recordings. Used in the event loop's thread; no request waits for them."""

    def __init__(self, artifacts: Artifacts, store: Store, stopped: Callable[[str, str], None]) -> None:
        self._artifacts = artifacts
        self._store = store
        self._say_stopped = stopped
        """Called with an endpoint's id and the reason, when what it records can't be stored."""
        self._waiting: dict[str, list[Line]] = {}
        self._bytes = 0
        self._left_out = 0
        self._stopped: dict[str, float] = {}
        """Until when nothing is recorded of endpoints whose last recordings could not be stored."""
        self._full = asyncio.Event()
        self._storing = asyncio.Lock()
        self._background = BackgroundTasks("recordings could not be stored or deleted")

    def start(self) -> None:
        self._background.spawn(self._run())
        self._background.spawn(self._expire())

    async def stop(self) -> None:
        """Store what waits."""
        await self._background.stop()
        await self.store()

    def sampler_of(self, endpoint: EndpointRecord) -> Sampler | None:
        """Return what picks the endpoint's predictions; None where it records none."""
        record = endpoint.spec.record
        if record is None or not record.share:
            return None
        return Sampler(record.share, partial(self._keep, endpoint.id))

    def _keep(self, endpoint_id: str, line: Line) -> None:
        has_stopped = self._stopped.get(endpoint_id, 0.0) > time.monotonic()
        if has_stopped or self._bytes + line.size > MAX_WAITING_BYTES:
            self._left_out += 1
            return
        self._waiting.setdefault(endpoint_id, []).append(line)
        self._bytes += line.size
        if self._bytes >= FILE_BYTES:
            self._full.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(STORE_SECONDS):
                    await self._full.wait()
            self._full.clear()
            await self.store()

    async def store(self) -> None:
        """Store what waits, each endpoint's in a file of its own."""
        async with self._storing:
            waiting, self._waiting = self._waiting, {}
            for endpoint_id, lines in waiting.items():
                await self._store_of(endpoint_id, lines)
        if left_out := self._left_out:
            self._left_out = 0
            log.warning("%d predictions were not recorded: more came than could be stored", left_out)

    async def _store_of(self, endpoint_id: str, lines: list[Line]) -> None:
        try:
            data = await asyncio.to_thread(lambda: b"".join(line.encoded() for line in lines))
            await self._artifacts.put(_new_key(endpoint_id, lines[0].at), data)
        except Unavailable as error:
            self._stopped[endpoint_id] = time.monotonic() + STOPPED_SECONDS
            reason = f"{error}; it is tried again every {STOPPED_SECONDS:g} s"
            self._say_stopped(endpoint_id, reason)
            log.error(
                "recording of the endpoint %s stops, %d predictions are lost: %s",
                endpoint_id,
                len(lines),
                reason,
            )
        except Exception:
            log.exception("%d recordings of the endpoint %s are lost", len(lines), endpoint_id)
        else:
            if self._stopped.pop(endpoint_id, None) is not None:
                log.info("recording of the endpoint %s works again", endpoint_id)
        finally:
            self._bytes -= sum(line.size for line in lines)

    async def read(self, endpoint_id: str, since: str, until: str) -> AsyncIterator[bytes]:
        """Return the lines recorded in this time, oldest first; empty times set no limit."""
        await self.store()
        return self._lines(await self._files(endpoint_id), since, until)

    async def _lines(self, files: list[Artifact], since: str, until: str) -> AsyncIterator[bytes]:
        for kept in files:
            begun = _stamp_of(kept.key)
            if (until and begun >= until) or (since and stamp_of(_moment(kept.stored_at)) < since):
                continue
            with suppress(NotFound):  # it may have expired
                lines = (await self._artifacts.get(kept.key)).splitlines(keepends=True)
                chosen = [line for line in lines if _is_within(line, since, until)]
                if chosen:
                    yield b"".join(chosen)

    async def _files(self, endpoint_id: str) -> list[Artifact]:
        found: list[Artifact] = []
        async for page in self._artifacts.pages(f"{FOLDER}/{endpoint_id}"):
            found += page
        return sorted(found, key=attrgetter("key"))

    async def _expire(self) -> None:
        while True:
            try:
                await self.expire(clock.now())
            except Exception:
                log.exception("recordings that have expired could not all be deleted; trying again later")
            await asyncio.sleep(EXPIRE_SECONDS)

    async def expire(self, now: float) -> None:
        """Delete what is older than its endpoint keeps it, or takes more room, and all of endpoints that are gone."""
        there = {each.id: each.spec.record or USUAL for each in await self._store.read(endpoints.list_all)}
        by_endpoint: dict[str, list[Artifact]] = {}
        async for page in self._artifacts.pages(FOLDER):
            for each in page:
                by_endpoint.setdefault(each.key.split("/")[1], []).append(each)
        for endpoint_id, files in by_endpoint.items():
            record = there.get(endpoint_id)
            gone = [each.key for each in files] if record is None else _expired(files, record, now)
            await self._artifacts.delete(*gone)


def _expired(files: list[Artifact], record: RecordSettings, now: float) -> list[str]:
    """Return the keys of files that are too old, and of the oldest beyond the room there is."""
    room, expired = record.max_bytes, []
    for each in sorted(files, key=attrgetter("key"), reverse=True):
        room -= each.size
        if room < 0 or each.stored_at < now - record.days * DAY:
            expired.append(each.key)
    return expired


def _new_key(endpoint_id: str, at: float) -> str:
    return f"{FOLDER}/{endpoint_id}/{stamp_of(_moment(at)).replace(':', '-')}-{secrets.token_hex(4)}.jsonl"


def _stamp_of(key: str) -> str:
    name = key.rpartition("/")[2].removesuffix(".jsonl").rpartition("-")[0]
    day, _, hour = name.partition("T")
    return f"{day}T{hour.replace('-', ':')}"


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _is_within(line: bytes, since: str, until: str) -> bool:
    if not since and not until:
        return True
    at = line[len(_AT) : line.index(b'"', len(_AT))].decode()  # quicker than to read all of it
    return (not since or at >= since) and (not until or at < until)


def _document(data: bytes) -> object:
    """Return JSON as it is to be written; anything else, as text."""
    try:
        orjson.loads(data)
        # As it came: what was read may be nested too deeply to be written again. A line break is only a space here.
        return orjson.Fragment(data.replace(b"\n", b" ").replace(b"\r", b" "))
    except orjson.JSONDecodeError:  # such as NaN, which Python's own reader takes
        return data.decode(errors="replace")


def _items(data: bytes) -> list[object]:
    """Return the items of a stream from its events."""
    events = data.split(b"\n\n")
    return [_document(event.removeprefix(b"data: ")) for event in events if event.startswith(b"data: ")]
