"""Sync predictions: what happens when the worker has answered, or cannot."""

import logging
import secrets
from dataclasses import dataclass

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, Unavailable
from openlaunch.server.dispatch.work import Call
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.pieces import respond_in_pieces
from openlaunch.server.gateway.request_tasks import RequestTasks
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.idempotency import Answers, Keyed
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.results import SignedURLs, base_url, pickled_body
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.store.answers import AnswerRecord
from openlaunch_worker.frames import Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallServices:
    """What sync requests need to be answered."""

    check_responses: bool
    deadlines: Deadlines
    tasks: RequestTasks
    answers: Answers
    artifacts: Artifacts
    urls: SignedURLs
    checks: Checks

    def needs_finishing(self, outcome: int) -> bool:
        """Return whether an answer goes to artifacts, or is validated against the response schema first."""
        return outcome == Outcome.PICKLED or (outcome == Outcome.SUCCESS and self.check_responses)

    async def finish(
        self, exchange: Exchange, owner: str, outcome: int, payload: bytes, schemas: BundleSchemas
    ) -> tuple[bytes, str | None]:
        """Make the body of such an answer, and for a pickled one return the key of the artifact too."""
        if outcome == Outcome.PICKLED:
            key = f"results/{secrets.token_hex(16)}.pkl"
            await self.artifacts.put(key, payload)
            return self._pickled(exchange, key), key
        return await self.checks.response(owner, payload, schemas), None

    def _pickled(self, exchange: Exchange, key: str) -> bytes:
        return pickled_body(self.urls.make(base_url(exchange.scope), "GET", key))

    async def respond_again(self, exchange: Exchange, answer: AnswerRecord) -> None:
        """Give an answer that was stored under an Idempotency-Key."""
        if answer.body_key is not None and answer.body_key.endswith(".pkl"):
            exchange.respond(self._pickled(exchange, answer.body_key))
        else:
            await respond_in_pieces(exchange, self.answers.pieces_of(answer))


class SyncCall(Call):
    """A sync request whose client waits for the answer."""

    __slots__ = ("_exchange", "_owner", "_schemas", "_services")

    def __init__(
        self,
        services: CallServices,
        exchange: Exchange,
        predict_input: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
        owner: str,
    ) -> None:
        super().__init__(predict_input.body, predict_input.flags, deadline, services.deadlines)
        self._services = services
        self._exchange = exchange
        self._owner = owner
        self._schemas = schemas

    def answered(self, outcome: int, payload: bytes) -> None:
        services, exchange = self._services, self._exchange
        if outcome == Outcome.CANCELLED:
            text = "the worker stopped before it answered"
            exchange.fail(Unavailable(text, code="cancelled", retry_after=1))
        elif services.needs_finishing(outcome):
            services.tasks.spawn(self._finish(outcome, payload), exchange)
        else:
            exchange.respond(payload)

    async def _finish(self, outcome: int, payload: bytes) -> None:
        body, _ = await self._services.finish(self._exchange, self._owner, outcome, payload, self._schemas)
        self._exchange.respond(body)

    def failed(self, error: APIError) -> None:
        self._exchange.fail(error)

    def gone(self) -> None:
        """Stop the work: the client went away."""
        self.abandon()


class KeyedCall(SyncCall):
    """A sync request with an Idempotency-Key. Only what the model answered is stored: errors are tried again."""

    __slots__ = ("_keyed",)

    def __init__(
        self,
        services: CallServices,
        exchange: Exchange,
        predict_input: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
        owner: str,
        keyed: Keyed,
    ) -> None:
        super().__init__(services, exchange, predict_input, deadline, schemas, owner)
        self._keyed = keyed

    def answered(self, outcome: int, payload: bytes) -> None:
        if outcome == Outcome.CANCELLED:
            self._release()
            super().answered(outcome, payload)
        else:
            self._services.tasks.spawn(self._finish(outcome, payload), self._exchange)

    async def _finish(self, outcome: int, payload: bytes) -> None:
        services, body, key = self._services, payload, None
        try:
            if services.needs_finishing(outcome):
                body, key = await services.finish(
                    self._exchange, self._owner, outcome, payload, self._schemas
                )
            await services.answers.keep(self._owner, self._keyed, body, key)
        except Unavailable as error:
            log.error("an answer is given without being stored under its Idempotency-Key: %s", error)
        finally:
            self._release()
        self._exchange.respond(body)

    def failed(self, error: APIError) -> None:
        self._release()
        super().failed(error)

    def gone(self) -> None:
        if not self.cancelled:
            self._release()
        super().gone()

    def _release(self) -> None:
        self._services.answers.release(self._owner, self._keyed)
