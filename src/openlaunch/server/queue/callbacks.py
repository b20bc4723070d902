"""Sends callbacks: POSTs what the outbox holds until it was taken, across restarts."""

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import cache, partial

from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.queue.failing_receivers import FailingReceivers
from openlaunch.server.queue.posting import Poster
from openlaunch.server.queue.progress_callbacks import ProgressCallbacks
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import CallbackSettings
from openlaunch.server.spans import Spans
from openlaunch.store.base import Store
from openlaunch.tasks import lookups, outbox
from openlaunch.tasks.outbox import Attempt, Delivery
from openlaunch.turns import Turns
from openlaunch.wire.events import EventKind
from openlaunch.wire.tasks import DeliveryStatus
from openlaunch_worker.failures import clean

log = logging.getLogger(__name__)

AT_ONCE = 64
LOOK_SECONDS = 1.0
"""How long a callback that was released without a call of `wake` may wait before it is seen."""
CLAIM_SECONDS = 30.0
"""How much longer than an attempt may take one of several servers has a callback."""
MAX_ERROR = 500
_OUTCOMES = {
    DeliveryStatus.DELIVERED: "taken",
    DeliveryStatus.PENDING: "failed",
    DeliveryStatus.FAILED: "given_up",
}


class CallbackSigner:
    """Signs callbacks as Standard Webhooks has it, with a secret for each owner (standardwebhooks.com)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def secret_of(self, owner: str) -> str:
        """Return the secret with which the owner's receivers verify signatures."""
        return "whsec_" + base64.b64encode(self._key(owner)).decode()

    async def headers(
        self, owner: str, message_id: str, now: float, pieces: AsyncIterator[bytes]
    ) -> dict[str, str]:
        """Make the three headers of a message, and the one that says how long its body is."""
        timestamp, length = str(int(now)), 0
        signed = hmac.new(self._key(owner), f"{message_id}.{timestamp}.".encode(), hashlib.sha256)
        async for piece in pieces:
            signed.update(piece)
            length += len(piece)
        return {
            "content-length": str(length),
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(signed.digest()).decode(),
        }

    def _key(self, owner: str) -> bytes:
        return hmac.new(self._secret, b"callbacks\0" + owner.encode(), hashlib.sha256).digest()


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


class Callbacks:
    """The one loop that empties the outbox. Used in the event loop's thread."""

    def __init__(
        self,
        settings: CallbackSettings,
        store: Store,
        tasks: TaskService,
        signer: CallbackSigner,
        urls: SignedURLs,
        *,
        shared: bool,
        tell: Callable[[str, EventKind, str], None],
    ) -> None:
        """Take what sends need; where the outbox is `shared` with other servers, each callback is claimed first.

        `tell` is called with an endpoint when its callbacks begin to fail, and when they are taken again.
        """
        self.signer = signer
        self.spans: Spans | None = None
        """Has a span for each attempt, where the server traces."""
        self.outcomes: Counter[str] = Counter(taken=0, failed=0, given_up=0)
        """How attempts to send a callback ended: it was taken, or failed and is tried again, or is given up."""
        self._settings = settings
        self._store = store
        self._tasks = tasks
        self._urls = urls
        self._wake = asyncio.Event()
        self._turns = Turns(AT_ONCE)
        self._sending: dict[str, tuple[Delivery, asyncio.Task[None]]] = {}
        self._last: dict[str, str] = {}
        """The receiver that each owner's last callback was sent to."""
        self._loop_task: asyncio.Task[None] | None = None
        self._seconds = settings.callback_timeout_seconds
        self._shared = shared
        self._receivers = FailingReceivers(tell)
        self._progress = ProgressCallbacks(store, tasks.follower, self._post_progress)
        self._poster = Poster(allow_private=settings.private_addresses, ca_file=settings.callback_ca_file)

    def start(self, own_url: str) -> None:
        """Begin to send; `own_url` is where receivers find pickled results, unless a setting says otherwise."""
        self._base_url = self._settings.public_url or own_url
        self._tasks.recorder.on_callbacks = self.wake
        self._tasks.notes.on_note = self._progress.note
        self._loop_task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel what is being sent; it is sent again after the next start."""
        await self._progress.stop()
        sending = [task for _, task in self._sending.values()]
        running = [*sending, *([self._loop_task] if self._loop_task else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def wake(self) -> None:
        """Look for callbacks to send now."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._begin_due()
                pause = LOOK_SECONDS
            except Exception:
                log.exception("the callbacks that are due could not be looked up; trying again")
                pause = 5 * LOOK_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin_due(self) -> None:
        for owner in await self._store.read(outbox.owners):
            if room := self._turns.room(owner):
                await self._begin_due_of(owner, room)

    async def _begin_due_of(self, owner: str, room: int) -> None:
        now, last, under_way = clock.now(), self._last.get(owner, ""), self._under_way(owner)
        found = await self._store.read(
            lambda conn: outbox.due(conn, owner, now, room, last, under_way), owner
        )
        if self._shared and found:
            ids, until = [each.id for each in found], now + self._seconds + CLAIM_SECONDS
            claimed = await self._store.write(lambda conn: outbox.claim(conn, ids, now, until), owner)
            found = [each for each in found if each.id in claimed]
        for delivery in found:
            self._turns.take(owner)
            self._last[owner] = delivery.receiver
            task = asyncio.create_task(self._deliver(delivery))
            self._sending[delivery.id] = delivery, task
            task.add_done_callback(partial(self._ended, delivery))

    def _under_way(self, owner: str) -> dict[str, list[str]]:
        """Return the ids of the owner's callbacks that are being sent, by receiver."""
        ids: dict[str, list[str]] = {}
        for delivery, _ in self._sending.values():
            if delivery.owner == owner:
                ids.setdefault(delivery.receiver, []).append(delivery.id)
        return ids

    def _ended(self, delivery: Delivery, _: asyncio.Task[None]) -> None:
        del self._sending[delivery.id]
        self._turns.give_back(delivery.owner)
        self.wake()

    async def _deliver(self, delivery: Delivery) -> None:
        trace = None if self.spans is None else self.spans.begin_callback(delivery.task_id)
        try:
            attempt = await self._attempt(delivery, None if trace is None else trace.traceparent.decode())
            if self.spans is not None and trace is not None:
                attributes = {"http.request.method": "POST", "server.address": delivery.receiver}
                answered = (
                    {} if attempt.status_code is None else {"http.response.status_code": attempt.status_code}
                )
                error = None if attempt.taken else str(attempt.status_code or "no_answer")
                self.spans.end(trace, "callback", "CLIENT", {**attributes, **answered}, error)
            await self._store.write(lambda conn: outbox.record(conn, delivery.id, attempt), delivery.owner)
        except Exception:
            log.exception("the callback %s could not be sent or recorded; it is tried again", delivery.id)
            await asyncio.sleep(LOOK_SECONDS)
            return
        status, _ = outbox.after_attempt(delivery, attempt)
        self.outcomes[_OUTCOMES[status]] += 1
        self._receivers.attempted(delivery, attempt)
        if attempt.taken:
            log.info("callback %s was taken by %s", delivery.id, delivery.receiver)
        else:
            log.warning("callback %s to %s failed: %s", delivery.id, delivery.receiver, attempt.error)

    async def _attempt(self, delivery: Delivery, traceparent: str | None = None) -> Attempt:
        import httpx2  # only now: most starts send no callback

        from openlaunch.server.queue.http_post import NO_ANSWER

        pieces = await self._pieces_of(delivery)
        began, start = clock.now(), time.monotonic()
        if pieces is None:
            return Attempt(began, 0.0, outbox.GONE_STATUS, "the task's result is no longer kept")
        status, error = None, None
        try:
            headers = await self.signer.headers(delivery.owner, delivery.id, time.time(), pieces())
            if traceparent is not None:
                headers["traceparent"] = traceparent
            async with asyncio.timeout(self._seconds):
                status = await self._post(delivery, pieces, headers)
            if not 200 <= status < 300:
                error = f"the receiver answered {status}"
        except TimeoutError:
            error = f"there was no answer within {self._seconds:g} s"
        except (OSError, *NO_ANSWER, httpx2.InvalidURL, ssl.SSLError, ValueError, APIError) as problem:
            error = clean(f"{type(problem).__name__}: {problem}")[:MAX_ERROR]
        except Exception as problem:  # it counts as an attempt, or this would be tried every second for ever
            log.exception("the callback %s could not be sent", delivery.id)
            error = f"the server could not send it: {type(problem).__name__}"
        return Attempt(began, round(time.monotonic() - start, 3), status, error)

    async def _pieces_of(self, delivery: Delivery) -> Callable[[], AsyncIterator[bytes]] | None:
        """Return what begins the body anew for each look at it: results of any size wait for slow receivers."""
        if delivery.body is not None:
            return partial(_whole, delivery.body)
        record = await self._store.read(
            lambda conn: lookups.get(conn, delivery.owner, delivery.task_id), delivery.owner
        )
        if record is None:
            return None
        make_url = cache(partial(self._urls.make, self._base_url, "GET"))
        return partial(self._tasks.answerer.pieces_of, record, make_url)

    async def _post_progress(self, delivery: Delivery, message_id: str, body: bytes) -> None:
        pieces = partial(_whole, body)
        try:
            headers = await self.signer.headers(delivery.owner, message_id, time.time(), pieces())
            async with asyncio.timeout(self._seconds):
                await self._post(delivery, pieces, headers)
        except (
            Exception
        ) as problem:  # whatever it is: the task's own callback is tried again, and this is not
            log.info("the progress %s was not sent: %s", message_id, clean(str(problem))[:MAX_ERROR])

    async def _post(
        self, delivery: Delivery, pieces: Callable[[], AsyncIterator[bytes]], headers: dict[str, str]
    ) -> int:
        import httpx2

        headers = {"content-type": "application/json", "user-agent": "openlaunch-callback", **headers}
        url = httpx2.URL(delivery.url)
        return await self._poster.post(delivery.owner, url, pieces, headers, delivery.auth or {})
