"""Requests of models with an `Idempotency-Key`: they are run once, and answered the same again."""

import logging

from openlaunch.errors import APIError, Unavailable
from openlaunch.server.asgi import HARMLESS
from openlaunch.server.dispatch.payers import Payer
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.request_tasks import RequestTasks
from openlaunch.server.gateway.response import JSON
from openlaunch.server.gateway.streams import Streams
from openlaunch.server.prediction.idempotency import Answers, Keyed
from openlaunch.store.answers import AnswerRecord
from openlaunch_worker.frames import Body, Outcome

log = logging.getLogger(__name__)

_GOOD = 200


class KeyedModelCall(ModelCall):
    """A request of a model with a key. Only a good answer in JSON is stored: all else is tried again."""

    __slots__ = ("_answers", "_keyed", "_tasks")

    def __init__(
        self,
        streams: Streams,
        exchange: ModelExchange,
        payer: Payer,
        body: Body,
        deadline: float,
        *,
        answers: Answers,
        tasks: RequestTasks,
        keyed: Keyed,
    ) -> None:
        super().__init__(streams, exchange, payer, body, deadline, adds_usage=False)
        self._answers, self._tasks, self._keyed = answers, tasks, keyed

    @property
    def idempotency(self) -> str | None:
        return f"{self.owner}\n{self._keyed.key}"

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.SUCCESS and self._is_kept:
            self._tasks.spawn(self._keep(outcome, payload), self._exchange)
        else:
            self._release()
            super().answered(outcome, payload)

    async def _keep(self, outcome: int, payload: Body) -> None:
        try:
            await self._answers.keep(self.owner, self._keyed, self._gathered, None)
        except Unavailable as error:
            log.error("an answer is given without being stored under its Idempotency-Key: %s", error)
        finally:
            self._release()
        super().answered(outcome, payload)

    @property
    def _is_kept(self) -> bool:
        kind = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        return self._status == _GOOD and not self._passes_on and kind == JSON["content-type"]

    def failed(self, error: APIError) -> None:
        self._release()
        super().failed(error)

    def gone(self) -> None:
        if not self.cancelled:
            self._release()
        super().gone()

    def _release(self) -> None:
        self._answers.release(self.owner, self._keyed)


async def answer_again(exchange: ModelExchange, answers: Answers, stored: AnswerRecord) -> None:
    """Give an answer that was stored under an Idempotency-Key."""
    body = bytearray()
    async for piece in answers.pieces_of(stored):
        body += piece
        if not exchange.collect(len(body)):
            return  # there is no room for it, which is answered
    exchange.respond_as_is(_GOOD, {**JSON, **HARMLESS}, body)
