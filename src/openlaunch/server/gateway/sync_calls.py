"""Sync predictions: what happens when the worker has answered, or cannot."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, Unavailable
from openlaunch.server.asgi import headers_of
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Call, Kept
from openlaunch.server.gateway.answers_in_pieces import respond_in_pieces
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.request_tasks import RequestTasks
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.idempotency import Answers, Claim, keyed
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.results import MISFIT, SignedURLs, pickled_body, with_request_id
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.spans import TRACE, Trace, with_traceparent
from openlaunch.store.answers import AnswerRecord
from openlaunch_worker.documents import About
from openlaunch_worker.frames import Body, Flags, Outcome

if TYPE_CHECKING:
    from openlaunch.server.dispatch.left_work import LeftWork

_SUCCESS: Final = int(Outcome.SUCCESS)
KEPT_BYTES: Final = 16 * 1024 * 1024
KEPT_SECONDS: Final = 30.0
"""How long a node has the answer to a request with an Idempotency-Key, which its server may not have stored."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Starts sync requests, and has what they need to be answered."""

    check_responses: bool
    deadlines: Deadlines
    tasks: RequestTasks
    answers: Answers
    artifacts: Artifacts
    urls: SignedURLs
    checks: Checks
    left_work: "LeftWork | None" = None
    """Where nodes have requests whose servers are gone."""

    def start(
        self,
        exchange: Exchange,
        lane: Lane,
        owner: str,
        predict_input: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
    ) -> Call:
        """Give a request to a worker."""
        call = SyncCall(self, exchange, predict_input, deadline, schemas, owner)
        # An answer that something else reads, too, is JSON.
        if exchange.reads_parts and not self.check_responses and lane.tally.sampler is None:
            call.flags = Flags.IN_PARTS if call.flags is Flags.NONE else call.flags | Flags.IN_PARTS
        submit(call, exchange, lane, owner, self.deadlines)
        return call

    async def start_keyed(
        self,
        key: str,
        exchange: Exchange,
        lane: Lane,
        owner: str,
        predict_input: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
    ) -> Call | None:
        """Give a request to a worker, unless its Idempotency-Key has an answer already, which is given again."""
        request = await keyed(key, lane.endpoint.id, exchange.body)
        claim = await self.answers.begin(owner, request, deadline)
        if isinstance(claim, AnswerRecord):
            await self.respond_again(exchange, claim)
            return None
        call = KeyedCall(self, exchange, predict_input, deadline, schemas, owner)
        call.claim = claim
        if not await self._take_up(call, exchange, lane):
            claim.warn_of_second_run()
            submit(call, exchange, lane, owner, self.deadlines)
        return call

    async def _take_up(self, call: "KeyedCall", exchange: Exchange, lane: Lane) -> bool:
        """Continue the request, if a server that is gone had sent it; return whether a node has it."""
        kept = call.kept
        if self.left_work is None or kept.name not in self.left_work:
            return False
        try:
            found = await self.left_work.take_up(kept.name, lane, lambda taken_up: call) is not None
        except BaseException:
            call.gone()
            raise
        if found and not call.cancelled:
            exchange.on_gone = call.gone
            self.deadlines.add(call)
        return found

    def needs_finishing(self, outcome: int) -> bool:
        """Return whether an answer goes to artifacts, or is validated against the response schema first."""
        return outcome == Outcome.PICKLED or (outcome == Outcome.SUCCESS and self.check_responses)

    async def finish(
        self, exchange: Exchange, owner: str, outcome: int, payload: Body, schemas: BundleSchemas
    ) -> tuple[Body, str | None]:
        """Make the body of such an answer, and for a pickled one return the key of the artifact too."""
        if outcome == Outcome.PICKLED:
            key = f"results/{secrets.token_hex(16)}.pkl"
            await self.artifacts.put(key, payload)
            return self._pickled(exchange, key), key
        return await self.checks.response(owner, payload, schemas), None

    def _pickled(self, exchange: Exchange, key: str) -> bytes:
        return pickled_body(self.urls.make(self.urls.base_url(exchange.whole_scope), "GET", key))

    async def respond_again(self, exchange: Exchange, answer: AnswerRecord) -> None:
        """Give an answer that was stored under an Idempotency-Key."""
        if answer.body_key is not None and answer.body_key.endswith(".pkl"):
            exchange.respond(self._pickled(exchange, answer.body_key))
        else:
            await respond_in_pieces(exchange, self.answers.pieces_of(answer))


def submit(call: Call, exchange: Exchange, lane: Lane, owner: str, deadlines: Deadlines) -> None:
    """Give the call to a worker of the lane, or let it wait for one."""
    if owner != lane.endpoint.owner:
        call.flags |= Flags.FOREIGN
    if TRACE in exchange.scope:
        trace: Trace = exchange.scope[TRACE]
        trace.work, trace.endpoint = call, lane.endpoint.name
        if not call.flags & (Flags.RAW | Flags.PARTS):  # what is in front of a document would move its parts
            call.body = with_traceparent(call.body, trace.traceparent_of_work)
    try:
        lane.submit(call, owner)
    except APIError as error:
        call.refused(error)
    except BaseException:
        call.gone()
        raise
    if not call.cancelled:
        exchange.on_gone = call.gone
        deadlines.add(call)


class SyncCall(Call):
    """A sync request whose client waits for the answer."""

    __slots__ = ("_calls", "_exchange", "_owner", "_schemas")

    def __init__(
        self,
        calls: Calls,
        exchange: Exchange,
        predict_input: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
        owner: str,
    ) -> None:
        super().__init__(predict_input.body, predict_input.flags, deadline, calls.deadlines)
        self._calls = calls
        self._exchange = exchange
        self._owner = owner
        self._schemas = schemas

    @property
    def name(self) -> str:
        return f"request {self._exchange.request_id}"

    @property
    def owner(self) -> str:
        return self._owner

    def about(self) -> About:
        exchange = self._exchange
        return About(exchange.request_id, self._owner, headers_of(exchange.scope))

    def answered(self, outcome: int, payload: Body) -> None:
        calls, exchange = self._calls, self._exchange
        if outcome == _SUCCESS and not calls.check_responses:
            exchange.respond(payload)
        elif outcome == Outcome.FAILURE:
            exchange.respond_failed(bytes(payload))
        elif outcome == Outcome.CANCELLED:
            text = "the worker stopped before it answered"
            exchange.fail(Unavailable(text, code="cancelled", retry_after=1))
        elif outcome == Outcome.BINARY:
            exchange.respond_binary(payload)
        else:
            calls.tasks.spawn(self._finish(outcome, payload), exchange)

    async def _finish(self, outcome: int, payload: Body) -> None:
        body, _ = await self._finished(outcome, payload)
        self._exchange.respond(body)

    async def _finished(self, outcome: int, payload: Body) -> tuple[Body, str | None]:
        body, key = await self._calls.finish(self._exchange, self._owner, outcome, payload, self._schemas)
        if outcome == Outcome.SUCCESS and body is not payload:
            self.note_failure(MISFIT)
            body = with_request_id(bytes(body), self._exchange.request_id)
        return body, key

    def failed(self, error: APIError) -> None:
        self._exchange.fail(error)


class KeyedCall(SyncCall):
    """A sync request with an Idempotency-Key. Only what the model answered is stored: errors are tried again."""

    __slots__ = ("claim",)
    claim: Claim

    @property
    def kept(self) -> Kept:
        digest = hashlib.sha256(f"{self.claim.name}\n".encode() + self.claim.request.digest)
        return Kept(f"key-{digest.hexdigest()}", KEPT_BYTES, KEPT_SECONDS, KEPT_SECONDS)

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.CANCELLED:
            self.claim.release()
            super().answered(outcome, payload)
        else:
            if outcome == Outcome.FAILURE:
                payload = with_request_id(bytes(payload), self._exchange.request_id)
            self._calls.tasks.spawn(self._finish(outcome, payload), self._exchange)

    async def _finish(self, outcome: int, payload: Body) -> None:
        body, key = payload, None
        try:
            if self._calls.needs_finishing(outcome):
                body, key = await self._finished(outcome, payload)
            await self.claim.keep(body, key)
        finally:
            self.claim.release()
        self._exchange.respond(body)
