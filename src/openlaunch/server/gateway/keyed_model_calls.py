"""Requests of models with an `Idempotency-Key`: they are run once, and answered the same again."""

from typing import Self

from openlaunch.server.asgi import HARMLESS
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.request_tasks import RequestTasks
from openlaunch.server.gateway.response import JSON
from openlaunch.server.prediction.idempotency import Answers, Claim
from openlaunch.store.answers import AnswerRecord
from openlaunch_worker.frames import Body, Outcome

_GOOD = 200


class KeyedModelCall(ModelCall):
    """A request of a model with a key. Only a good answer in JSON is stored: all else is tried again."""

    __slots__ = ("_tasks", "claim")
    claim: Claim

    def holding(self, claim: Claim, tasks: RequestTasks) -> Self:
        """Have the answer stored under this claim, in one of these tasks."""
        self.claim, self._tasks = claim, tasks
        return self

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.SUCCESS and self._is_kept:
            self._tasks.spawn(self._keep(outcome, payload), self._exchange)
        else:
            self.claim.release()
            super().answered(outcome, payload)

    async def _keep(self, outcome: int, payload: Body) -> None:
        try:
            await self.claim.keep(self._gathered)
        finally:
            self.claim.release()
        super().answered(outcome, payload)

    @property
    def _is_kept(self) -> bool:
        kind = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        return self._status == _GOOD and not self._passes_on and kind == JSON["content-type"]


async def answer_again(exchange: ModelExchange, answers: Answers, stored: AnswerRecord) -> None:
    """Give an answer that was stored under an Idempotency-Key."""
    body = bytearray()
    async for piece in answers.pieces_of(stored):
        body += piece
        if not exchange.collect(len(body)):
            return  # there is no room for it, which is answered
    exchange.respond_as_is(_GOOD, {**JSON, **HARMLESS}, body)
