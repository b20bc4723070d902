"""How an endpoint's predictions end: counts over the last minutes and since its deploy, and lines in its log."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from openlaunch.server import clock
from openlaunch.server.dispatch.recordings import Sampler
from openlaunch.wire.failures import reason_of
from openlaunch_worker.log_allowance import Allowance

SAMPLE_SECONDS = 15.0
HOUR = 3600.0
MINUTES = 300.0

BURST, SECONDS_EACH = 20, 2.0
"""Failures that are written at once, and the time after which there is room for one more."""

MAX_TEXT = 4000
MAX_LINE = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """How many predictions have ended in workers, and how many of them have failed."""

    predictions: int = 0
    failures: int = 0

    def since(self, before: "Counts") -> "Counts":
        return Counts(self.predictions - before.predictions, self.failures - before.failures)


@dataclass(frozen=True, slots=True)
class Windows:
    """Counts of the last five minutes, of the last hour, and since the time `since`."""

    last_5_minutes: Counts
    last_hour: Counts
    since_deploy: Counts
    since: float


class Tally:
    """Counts an endpoint's predictions, and has a bounded number of failures written to its log.

    A prediction costs one addition to `predictions`: what is counted over time comes from samples of that number.
    `note` writes lines to the log of a worker.
    """

    __slots__ = (
        *("_allowance", "_at_deploy", "_failures", "_last_worker"),
        *("_note", "_now", "_samples", "_since", "last_error", "predictions", "sampler"),
    )

    def __init__(self, note: Callable[[str, str], None], now: Callable[[], float]) -> None:
        self.predictions = 0
        self.sampler: Sampler | None = None
        """What records predictions, where the endpoint has that."""
        self._note = note
        self._now = now
        self._samples: deque[tuple[float, Counts]] = deque([(now(), Counts())])
        self._allowance = Allowance(BURST, SECONDS_EACH)
        self._last_worker = self.last_error = ""
        self._failures = 0
        self.deployed()

    def deployed(self) -> None:
        """Count what is to come as that of a new deploy."""
        self._at_deploy = self._counts()
        self._since = clock.now()

    def _counts(self) -> Counts:
        return Counts(self.predictions, self._failures)

    def failed(self, worker_id: str, name: str, reason: Callable[[], str]) -> None:
        """Count a failure, and write which request or task has failed and why, unless others fill the log."""
        self._failures += 1
        self._last_worker = worker_id
        if self._allowance.take(self._now()):
            text = _bounded(reason())
            self.last_error = _type_of(text)
            self._note(worker_id, f"{name} failed: {text}")

    def sample(self) -> None:
        """Keep the counts of now for later; to be called every `SAMPLE_SECONDS`."""
        now, counts = self._now(), self._counts()
        if left_out := self._allowance.take_refused():
            self._note(self._last_worker, f"{left_out} more predictions have failed that are not shown here")
        if counts != self._samples[-1][1]:
            self._samples.append((now, counts))
        while len(self._samples) > 1 and self._samples[1][0] <= now - HOUR:
            self._samples.popleft()

    def windows(self) -> Windows:
        counts, now = self._counts(), self._now()
        return Windows(
            counts.since(self._at(now - MINUTES)),
            counts.since(self._at(now - HOUR)),
            counts.since(self._at_deploy),
            self._since,
        )

    def _at(self, time: float) -> Counts:
        return next((counts for at, counts in reversed(self._samples) if at <= time), self._samples[0][1])


def traceback_of(payload: bytes) -> str:
    """Return why a prediction failed, and its traceback, from a result's bytes, or those of a stream's last event."""
    try:
        document = json.loads(payload.removeprefix(b"data: "))
        reason, traceback = reason_of(document, MAX_LINE), str(document["traceback"]).strip()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "the answer does not say why"
    return traceback if traceback == reason else f"{reason}\n{traceback}"


def _bounded(text: str) -> str:
    """Return the text cut in its middle, as its lines are."""
    text = "\n".join(line[:MAX_LINE] for line in text.strip().splitlines())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT // 2]}\n…\n{text[-MAX_TEXT // 2 :]}"


def _type_of(text: str) -> str:
    """Return the type with which the text of an error begins; nothing else of it, which may differ each time."""
    name = text.partition(":")[0]
    return name if name.isidentifier() else ""
