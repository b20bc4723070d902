"""Lines of batches for models: requests that pass through to an engine, and whose answers become lines of a file."""

import json
from typing import Any

import orjson

from openlaunch.server.access.tokens import Account
from openlaunch.server.dispatch.answer_rules import check_head
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswer
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.payers import Payer
from openlaunch.server.prediction.batch_lines import line_of
from openlaunch.server.prediction.usage import estimate, usage_in
from openlaunch.server.queue.running import Runner, TaskWork
from openlaunch.tasks.queue import ClaimedTask, Finished
from openlaunch.tasks.states import State
from openlaunch.wire.failures import reason_of
from openlaunch_worker.frames import (
    MIN_CHUNK_BYTES,
    STREAM_WINDOW,
    Body,
    Flags,
    FrameError,
    Kind,
    Outcome,
)

COUNTED_BYTES = 256 * 1024
"""An answer is counted in parts of this size, of the memory for answers that come."""

_FULL = "the answer is too large beside the other large answers that are on their way"
_ARGS = b', "args": '
_ERROR, _BAD_GATEWAY = 400, 502
_MAX_TEXT = 2000
_MAX_NAMES = 16384


class LineWork(TaskWork):
    """One line of a batch in a worker's slot: the engine's answer is gathered, and is the line's result.

    An answer that is broken off, as when the engine dies, does not count: the line has another attempt.
    """

    __slots__ = ("_ahead", "_counted", "_gathered", "_room", "_status")
    answer_kind = int(Kind.END)

    def __init__(self, runner: Runner, lane: Lane, task: ClaimedTask, payload: bytes, seconds: float) -> None:
        super().__init__(runner, lane, task, payload, seconds)
        self.flags |= Flags.RAW | Flags.STREAM
        self._gathered = bytearray()
        self._counted = COUNTED_BYTES
        self._room: list[ArrivingAnswer] = []
        """The room that is held for the answer that comes, a part for each `COUNTED_BYTES`."""
        self._ahead = 0
        self._status = 0

    @property
    def kept(self) -> None:
        return None

    def head(self, payload: Body) -> None:
        self._status, _ = check_head(payload)

    @property
    def has_begun(self) -> bool:
        return self._status > 0 or bool(self._gathered)

    def check_chunk(self) -> None:
        if self._ahead >= STREAM_WINDOW:
            raise FrameError("a CHUNK beyond the credit of its stream")

    def chunk(self, data: Body) -> None:
        self.check_chunk()
        self._ahead += max(MIN_CHUNK_BYTES, len(data))
        if self.cancelled:
            return
        self._gathered += data
        while len(self._gathered) > self._counted:
            room = ArrivingAnswer(self.lane.endpoint.owner, COUNTED_BYTES)
            if not self._runner.arriving.take(room):
                self._break_off()
                return
            self._room.append(room)
            self._counted += COUNTED_BYTES
        if self._ahead >= STREAM_WINDOW // 4 and self._link is not None:
            self._link.credit(self._request_id, self._ahead)
            self._ahead = 0

    def _break_off(self) -> None:
        """Give the line another attempt: large answers take up the memory."""
        link, request_id = self._link, self._request_id
        self._room.clear()
        if self.end():
            if link is not None:
                link.cancel(request_id)
            self._gathered.clear()
            self._runner.give_back(self, _FULL, died=True)

    def finished(self, outcome: int, payload: Body) -> None:
        # Not of `TaskWork`: tasks are claimed ahead by how long they take, and lines are not.
        super(TaskWork, self).finished(outcome, payload)

    def answered(self, outcome: int, payload: Body) -> None:
        is_failure = outcome == Outcome.FAILURE
        if is_failure:
            payload = bytes(payload).removeprefix(b"data: ")
        if self._status >= _ERROR or outcome == Outcome.SUCCESS:
            self._record(self._status or 200)
        elif is_failure and (document := orjson.loads(payload))["status_code"] == _BAD_GATEWAY:
            self._runner.give_back(self, f"had no answer: {reason_of(document, _MAX_TEXT)}", died=True)
        else:
            super().answered(outcome, payload)

    def _record(self, status: int) -> None:
        task_id = self.task.id
        good = status < _ERROR
        response: dict[str, Any] = {"status_code": status, "request_id": f"req_{task_id}"}
        names = _names_in(self.body)
        if good and (budgets := self._runner.budgets) is not None:
            used = usage_in(self._gathered)
            if not used.total:
                used = estimate(str(names.get("destination_path")), len(self.body), len(self._gathered))
                response["usage"] = {"input_tokens": used.input, "output_tokens": used.output}
            Payer(budgets, self.lane, Account(*names["account"])).pay(self, used)
        state = State.SUCCESS if good else State.FAILURE
        reason = None if good else f"the engine answered {status}"
        custom_id, gathered = names.get("custom_id"), self._gathered
        self._runner.line_answered(
            self,
            Finished(task_id, state, status, reason=reason),
            gathered,
            lambda body: line_of(task_id, custom_id, response, body, None),
        )


def line_input(custom_id: str, account: Account, route: str, body: bytes) -> bytes:
    """Return the payload of a line's task: a request to a route, which names the line and who pays for it."""
    names = {"custom_id": custom_id, "account": account, "destination_path": route}
    return b'%b, "args": %b}' % (json.dumps(names).encode()[:-1], body)


def custom_id_of(payload: Body) -> str | None:
    """Return which line a payload is of."""
    return _names_in(payload).get("custom_id")


def _names_in(payload: Body) -> dict[str, Any]:
    """Return what stands in a payload before the body of its request."""
    head, found, _ = bytes(payload[:_MAX_NAMES]).partition(_ARGS)
    names: dict[str, Any] = json.loads(head + b"}") if found else {}
    return names
