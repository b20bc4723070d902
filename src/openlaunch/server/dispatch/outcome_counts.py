"""Counts how the predictions of one generation end, where somebody wants to know: a canary, or a probation."""

import json
from collections.abc import Callable
from typing import Any

from openlaunch.controller.trial import MAX_KEPT_FAILURES, Trial
from openlaunch_worker.frames import Outcome

MAX_ERROR = 300


class OutcomeCounts:
    """Counts in the event loop's thread; `on_failure` is called after each failure that may decide something."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._requests = 0
        self._failures = 0
        self._failed_at: list[int] = []
        self._error: str | None = None

    def ended(self, outcome: int, payload: bytes) -> None:
        """Count an answer of a worker; a cancelled prediction says nothing about the bundle."""
        if outcome == Outcome.CANCELLED:
            return
        if outcome == Outcome.FAILURE:
            self.failed(lambda: error_of(payload))
        else:
            self._requests += 1

    def failed(self, error: Callable[[], str]) -> None:
        """Count a failed prediction; `error` is called only where its text is kept."""
        self._requests += 1
        self._failures += 1
        if len(self._failed_at) < MAX_KEPT_FAILURES:
            self._failed_at.append(self._requests)
            self._error = error()
            self._on_failure()

    def trial(self) -> Trial:
        return Trial(self._requests, self._failures, tuple(self._failed_at), self._error)


def error_of(payload: bytes) -> str:
    """Return the last line of the traceback in a failure's bytes: a result's, or those of a stream's last event."""
    try:
        document: dict[str, Any] = json.loads(payload.removeprefix(b"data: "))
        lines = str(document["traceback"]).strip().splitlines()
        return lines[-1][:MAX_ERROR]
    except (ValueError, KeyError, IndexError, TypeError):
        return "the answer does not say why"
