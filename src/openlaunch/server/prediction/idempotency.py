"""`Idempotency-Key`: the same request of an owner under the same key is run once, and answered the same again."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import BadRequest, DeadlineExceeded
from openlaunch.server import clock
from openlaunch.server.asgi import Scope
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.server.settings import ResultSettings
from openlaunch.store import answers
from openlaunch.store.answers import AnswerRecord, key_reused
from openlaunch.store.base import Store
from openlaunch_worker.frames import Body

MAX_KEY_LENGTH = 255
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Keyed:
    """A key as it was sent, and the digest of what was sent with it: the endpoint and the body, byte for byte."""

    key: str
    digest: bytes = field(repr=False)


def idempotency_key(scope: Scope) -> str | None:
    """Return the request's key, if it has one; raise BadRequest if it is empty or too long."""
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            if 1 <= len(value) <= MAX_KEY_LENGTH:
                return str(value, "latin-1")
            text = f"the Idempotency-Key has {len(value)} characters; 1 to {MAX_KEY_LENGTH} are allowed"
            raise BadRequest(text)
    return None


async def keyed(key: str, endpoint_id: str, body: Body) -> Keyed:
    """Digest the request of a key, in a thread if it is large."""
    if len(body) > QUICK_BYTES:
        return Keyed(key, await asyncio.to_thread(_digest, endpoint_id, body))
    return Keyed(key, _digest(endpoint_id, body))


def _digest(endpoint_id: str, body: Body) -> bytes:
    digest = hashlib.sha256(endpoint_id.encode() + b"\n")
    digest.update(body)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Running:
    """A request that is being answered, for those that come with the same key."""

    digest: bytes
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Answers:
    """The answers to sync requests with keys: on disk, until they expire. Used in the event loop's thread.

    A request for which `begin` returns no answer must be run and then ended with `release`; if the model answered,
    `keep` comes before.
    """

    def __init__(self, settings: ResultSettings, store: Store, artifacts: Artifacts) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._running: dict[tuple[str, str], _Running] = {}

    async def begin(self, owner: str, request: Keyed, deadline: float) -> AnswerRecord | None:
        """Return the stored answer, after waiting for one that is being made; None: the request is to be run.

        Raises:
            Unprocessable: the key was used for another request.
            DeadlineExceeded: the first request with this key still runs at `deadline`, on the loop's clock.
        """
        while (running := self._running.get((owner, request.key))) is not None:
            if running.digest != request.digest:
                raise key_reused(request.key)
            try:
                async with asyncio.timeout_at(deadline):
                    await running.ended.wait()
            except TimeoutError:
                text = "the deadline passed while the first request with this Idempotency-Key ran"
                raise DeadlineExceeded(text) from None
        self._running[owner, request.key] = _Running(request.digest)
        answer = None
        try:
            now = clock.now()
            answer = await self._store.read(lambda conn: answers.get(conn, owner, request.key, now), owner)
            if answer is not None and answer.digest != request.digest:
                raise key_reused(request.key)
        except BaseException:
            self.release(owner, request)
            raise
        if answer is not None:
            self.release(owner, request)
        return answer

    async def keep(self, owner: str, request: Keyed, body: Body, pickle_key: str | None) -> None:
        """Store an answer: its body, or the artifact that the pickled result is. It is on disk when this returns."""
        key = pickle_key
        if key is None and len(body) > self._settings.inline_bytes:
            key = f"answers/{secrets.token_hex(16)}.json"
            await self._artifacts.put(key, body)
        record = AnswerRecord(
            owner=owner,
            idempotency_key=request.key,
            digest=request.digest,
            expires_at=clock.now() + self._settings.result_retention_seconds,
            body_key=key,
            body=bytes(body) if key is None else None,
        )
        await self._store.write(lambda conn: answers.put(conn, record), record.owner)

    def release(self, owner: str, request: Keyed) -> None:
        """End the request, so that those that wait for it look again. Harmless when called twice."""
        running = self._running.pop((owner, request.key), None)
        if running is not None:
            running.ended.set()

    async def pieces_of(self, answer: AnswerRecord) -> AsyncIterator[bytes]:
        """Give the JSON body of a stored answer that is not a pickle."""
        if answer.body is not None:
            yield answer.body
            return
        async for piece in self._artifacts.stream(answer.body_key or "", PIECE_BYTES):
            yield piece
