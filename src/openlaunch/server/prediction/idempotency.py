"""`Idempotency-Key`: the same request of an owner under the same key is run once, and answered the same again."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from openlaunch.artifacts.base import Artifacts
from openlaunch.background import BackgroundTasks
from openlaunch.errors import BadRequest, DeadlineExceeded, Unavailable
from openlaunch.server import clock
from openlaunch.server.asgi import Scope
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.server.settings import ResultSettings
from openlaunch.store import answers
from openlaunch.store.answers import AnswerRecord, key_reused
from openlaunch.store.base import Store
from openlaunch_worker.frames import Body

log = logging.getLogger(__name__)

MAX_KEY_LENGTH = 255
PIECE_BYTES = 256 * 1024
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.02, 0.25
"""How long a request waits before it looks again for the answer that another server makes."""
KEEP_SECONDS = 10.0
"""How long after its deadline a request keeps its claim, within which its answer is stored."""


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


class Claim:
    """The right to run the request of a key: others with the same key wait until it is released.

    If the model answered, `keep` comes before `release`.
    """

    def __init__(self, answers: "Answers", owner: str, request: Keyed) -> None:
        self.owner = owner
        self.request = request
        self.ended = asyncio.Event()
        self.record: AnswerRecord | None = None
        """What other servers of the cluster know it by, until its answer is stored."""
        self.again = False
        """Whether a server that is gone may have run it."""
        self._answers = answers

    @property
    def name(self) -> str:
        """What no other request of the server has while this one runs."""
        return f"{self.owner}\n{self.request.key}"

    async def keep(self, body: Body, pickle_key: str | None = None) -> None:
        """Store an answer: its body, or the artifact that the pickled result is.

        It is on disk when this returns. Where it can't be stored, the log says so, and it can be given all the same.
        """
        try:
            await self._answers.keep(self.owner, self.request, body, pickle_key)
            self.record = None
        except Unavailable as error:
            log.error("an answer is given without being stored under its Idempotency-Key: %s", error)

    def warn_of_second_run(self) -> None:
        """Say in the log that the model may have run already for the request, which is about to be run."""
        if self.again:
            text = "a request with an Idempotency-Key of %s is run; it may have run at a server that is gone"
            log.warning(text, self.owner)

    def release(self) -> None:
        """End the request, so that those that wait for it look again. Harmless when called twice."""
        if not self.ended.is_set():
            self.ended.set()
            self._answers.released(self)


class Answers:
    """The answers to sync requests with keys: on disk, until they expire. Used in the event loop's thread.

    With the name of this server in its cluster, requests are claimed in the store before they run, so that other
    servers wait for the answer.
    """

    def __init__(
        self, settings: ResultSettings, store: Store, artifacts: Artifacts, server: str | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._background = BackgroundTasks(
            "a claim could not be given up: other servers wait for its answer until the request's deadline"
        )
        self._running: dict[tuple[str, str], Claim] = {}

    async def begin(self, owner: str, request: Keyed, deadline: float) -> AnswerRecord | Claim:
        """Return the stored answer, after waiting for one that is being made, or the claim to run the request.

        Raises:
            Unprocessable: the key was used for another request.
            DeadlineExceeded: the first request with this key still runs at `deadline`, on the loop's clock.
        """
        while (running := self._running.get((owner, request.key))) is not None:
            if running.request.digest != request.digest:
                raise key_reused(request.key)
            try:
                async with asyncio.timeout_at(deadline):
                    await running.ended.wait()
            except TimeoutError:
                text = "the deadline passed while the first request with this Idempotency-Key ran"
                raise DeadlineExceeded(text) from None
        claim = self._running[owner, request.key] = Claim(self, owner, request)
        try:
            answer = await self._find(claim, deadline)
            if answer is not None and answer.digest != request.digest:
                raise key_reused(request.key)
        except BaseException:
            claim.release()
            raise
        if answer is None:
            return claim
        claim.release()
        return answer

    async def _find(self, claim: Claim, deadline: float) -> AnswerRecord | None:
        """Return the stored answer, of another request too; None: none is stored, or made at another server."""
        owner, request = claim.owner, claim.request
        if self._server is None:
            now = clock.now()
            return await self._store.read(lambda conn: answers.get(conn, owner, request.key, now), owner)
        pause = FIRST_LOOK_SECONDS
        while True:
            now, left = clock.now(), deadline - self._loop.time()
            expires_at = now + max(left, 0) + KEEP_SECONDS
            mine = AnswerRecord(owner, request.key, request.digest, expires_at, server=self._server)
            claim.record = mine
            claimed = await self._store.write(lambda conn: answers.claim(conn, mine, now), owner)  # noqa: B023
            claim.again = claimed.again
            if (found := claimed.found) is None:
                return None
            claim.record = None
            if found.server is None or found.digest != request.digest:
                return found
            if left <= pause:
                text = "the deadline passed while the first request with this Idempotency-Key ran at another server"
                raise DeadlineExceeded(text)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)

    async def keep(self, owner: str, request: Keyed, body: Body, pickle_key: str | None) -> None:
        """Store an answer, for `Claim.keep`."""
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
        await self._store.write(lambda conn: answers.put(conn, record, self._server), record.owner)

    def released(self, claim: Claim) -> None:
        """Forget a claim, for `Claim.release`."""
        del self._running[claim.owner, claim.request.key]
        if claim.record is not None:
            self._background.spawn(self._give_up(claim.record))

    async def _give_up(self, claim: AnswerRecord) -> None:
        """Let other servers run the request, which has no answer; where that is not stored, the claim expires."""
        with suppress(Unavailable):
            await self._store.write(lambda conn: answers.give_up(conn, claim), claim.owner)

    async def stop(self) -> None:
        """Give nothing up any longer: this server's claims end with its place in the cluster."""
        await self._background.stop()

    async def pieces_of(self, answer: AnswerRecord) -> AsyncIterator[bytes]:
        """Give the JSON body of a stored answer that is not a pickle."""
        if answer.body is not None:
            yield answer.body
            return
        async for piece in self._artifacts.stream(answer.body_key or "", PIECE_BYTES):
            yield piece
