"""What is counted of an endpoint's predictions. Counting is a few additions; what shows the counts does the rest."""

from bisect import bisect_left
from collections import Counter
from enum import IntEnum
from time import monotonic, time
from typing import NamedTuple

from openlaunch.errors import APIError
from openlaunch.server.metrics.histograms import SECONDS, SIZES, Histogram
from openlaunch.server.metrics.models import ModelCounts
from openlaunch.wire.events import EventKind
from openlaunch.wire.workers import WorkerEnd
from openlaunch_worker.frames import Outcome

MAX_GENERATIONS = 8
"""Generations that are counted apart; the counts of older ones are kept together."""

LONG_WAIT_SECONDS = 1.0
"""A wait for a slot that is longer is a long one."""

_LONG_WAITS = SECONDS.index(LONG_WAIT_SECONDS) + 1

MAX_CODES = 40
"""Codes of errors that are counted apart; further ones are counted as "other"."""


class Ended(IntEnum):
    """How a prediction ended, as its caller sees it."""

    OK = 0
    MODEL_ERROR = 1
    CLIENT_ERROR = 2
    TOO_MANY = 3
    SERVER_ERROR = 4
    CANCELLED = 5
    DEADLINE = 6


LABELS = ("ok", "model_error", "4xx", "429", "5xx", "cancelled", "deadline")
"""The outcomes, as metrics name them, in the order of `Ended`."""

FAILED = (Ended.MODEL_ERROR, Ended.SERVER_ERROR, Ended.DEADLINE)
"""The outcomes for which an endpoint is to blame."""

_OF_ANSWERS = (Ended.OK, Ended.MODEL_ERROR, Ended.OK, Ended.SERVER_ERROR, Ended.OK)
"""By the outcome of a worker's answer; what is unserved has none yet."""

_SUCCESS = Outcome.SUCCESS.value
_SUMS = ("request_bytes", "response_bytes", "resumes", "input_tokens", "output_tokens", "cached_tokens")
_TOO_MANY, _DEADLINE, _FIRST_OF_SERVER = 429, 504, 500


def ended_by(error: APIError) -> Ended:
    """Return the outcome of a prediction that ends with an error."""
    if error.status >= _FIRST_OF_SERVER:
        return Ended.DEADLINE if error.status == _DEADLINE else Ended.SERVER_ERROR
    return Ended.TOO_MANY if error.status == _TOO_MANY else Ended.CLIENT_ERROR


class Exemplar(NamedTuple):
    """A prediction that was traced: its trace, its time in seconds, and when it ended, by the time of day."""

    trace_id: int
    seconds: float
    at: float


class PredictionCounts:
    """How predictions of one generation ended, how long they took, and their bytes.

    Of a stream's items those count together that come together.
    """

    __slots__ = (
        *("_answers", "_direct", "_ended", "_ran", "_waited", "_whole"),
        *(
            "batches",
            "errors",
            "exemplars",
            "first_item",
            "gaps",
            "last_codes",
            "request_bytes",
            "response_bytes",
            "resumes",
        ),
        *("cached_tokens", "input_tokens", "models", "output_tokens"),
    )

    def __init__(self) -> None:
        self._answers = [0] * len(_OF_ANSWERS)
        self._ended = [0] * len(Ended)
        self._direct, self._waited, self._ran, self._whole = (Histogram() for _ in range(4))
        self.first_item, self.gaps = Histogram(), Histogram()
        self.batches = Histogram(SIZES)
        """How many predictions each batch had, of endpoints that batch."""
        self.errors: Counter[str] = Counter()
        """By the code of the error that ended a prediction in place of a worker's answer."""
        self.last_codes: dict[Ended, str] = {}
        """The code of the last error by which predictions ended in each way."""
        self.exemplars: dict[int, Exemplar] = {}
        """The last prediction that was traced, by the bucket of the time in which it waited and ran."""
        self.request_bytes = self.response_bytes = self.resumes = 0
        self.input_tokens = self.output_tokens = self.cached_tokens = 0
        """Tokens of language models; those of a prompt that were in the engine's cache are counted as input, too."""
        self.models: dict[str, ModelCounts] = {}
        """Requests of language models, by their operations."""

    def answered(self, outcome: int, began: float, started: float) -> None:
        """Count a prediction that a worker has answered now; `began` is 0 where it need not wait for a slot."""
        now = monotonic()
        seconds = now - started
        if began:
            self._answers[outcome] += 1
            self._waited.observe(started - began)
            self._ran.observe(seconds)
            self._whole.observe(now - began)
            return
        if outcome:  # others of these are counted by their time alone
            self._answers[outcome] += 1
            self._answers[_SUCCESS] -= 1
        direct = self._direct  # in place of `observe`, whose call would cost as much as all of this
        direct.counts[bisect_left(SECONDS, seconds)] += 1
        direct.sum += seconds

    def refused(self, error: APIError) -> None:
        """Count a prediction that was refused before it waited for a slot."""
        self._ended[ended_by(error)] += 1
        self._note(error)

    def ended_otherwise(self, error: APIError | None, began: float, started: float) -> None:
        """Count a prediction that ends now without an answer; `started` is 0 where it was in no worker.

        Without an error, its client has gone or has cancelled it.
        """
        now = monotonic()
        self._ended[Ended.CANCELLED if error is None else ended_by(error)] += 1
        if error is not None:
            self._note(error)
        self._waited.observe((started or now) - (began or started or now))
        self._whole.observe(now - (began or started or now))
        if started:
            self._ran.observe(now - started)

    def exemplify(self, trace_id: int, seconds: float) -> None:
        """Keep which trace a prediction of this time belongs to."""
        self.exemplars[bisect_left(SECONDS, seconds)] = Exemplar(trace_id, seconds, time())

    def model(self, operation: str) -> ModelCounts:
        """Return where requests of a language model are counted."""
        if operation not in self.models:
            self.models[operation] = ModelCounts()
        return self.models[operation]

    def dead(self) -> None:
        """Count a task that ended because it has had its last attempt."""
        self._ended[Ended.SERVER_ERROR] += 1

    def _note(self, error: APIError) -> None:
        known = error.code in self.errors or len(self.errors) < MAX_CODES
        self.errors[error.code if known else "other"] += 1
        self.last_codes[ended_by(error)] = error.code

    @property
    def ended(self) -> list[int]:
        """How many ended in each way of `Ended`."""
        ended = self._ended.copy()
        for outcome, count in zip(_OF_ANSWERS, self._answers, strict=True):
            ended[outcome] += count
        ended[Ended.OK] += sum(self._direct.counts)
        return ended

    @property
    def waited(self) -> Histogram:
        """The times in which they waited for a slot."""
        waited = self._waited.copy()
        waited.counts[0] += sum(self._direct.counts)
        return waited

    @property
    def waited_long(self) -> int:
        """How many waited for a slot for over `LONG_WAIT_SECONDS`."""
        return sum(self._waited.counts[_LONG_WAITS:])

    @property
    def ran(self) -> Histogram:
        """The times in their workers."""
        return self._ran.plus(self._direct)

    @property
    def whole(self) -> Histogram:
        """The times in which they waited and ran."""
        return self._whole.plus(self._direct)

    @property
    def activity(self) -> int:
        """How many have ended."""
        return sum(self._answers) + sum(self._direct.counts) + sum(self._ended)

    def add(self, other: "PredictionCounts") -> None:
        """Count all that another one has counted."""
        for name in ("_answers", "_ended"):
            pairs = zip(getattr(self, name), getattr(other, name), strict=True)
            setattr(self, name, [mine + more for mine, more in pairs])
        for name in ("_direct", "_waited", "_ran", "_whole", "first_item", "gaps", "batches"):
            setattr(self, name, getattr(self, name).plus(getattr(other, name)))
        self.errors += other.errors
        self.exemplars |= other.exemplars
        for operation, counts in other.models.items():
            self.models[operation] = self.model(operation).plus(counts)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class EndpointCounts:
    """What is counted of one endpoint since the server started."""

    def __init__(self) -> None:
        self.refused = PredictionCounts()
        """Counts of predictions that were in no worker, and of generations that are no longer counted apart."""
        self.generations: dict[int, PredictionCounts] = {}
        self.events: Counter[str] = Counter()
        """The number of events of each kind."""
        self.ends: Counter[str] = Counter()
        """The number of workers whose processes have ended, by the reason."""
        self.build_seconds, self.process_seconds, self.load_seconds = Histogram(), Histogram(), Histogram()
        self.gpu_waits = Histogram()
        """For how long the endpoint waited for the GPUs of a worker that then started."""
        self.submitted = self.retries = self.dead_letters = 0
        self.swaps = 0
        """Workers that it gave up, because others waited for their GPUs."""

    def of(self, generation: int) -> PredictionCounts:
        """Return the counts of a generation, to which its workers add."""
        if generation not in self.generations:
            self.generations[generation] = PredictionCounts()
            if len(self.generations) > MAX_GENERATIONS:
                self.refused.add(self.generations.pop(min(self.generations)))
        return self.generations[generation]

    def happened(self, kind: EventKind) -> None:
        self.events[kind.value] += 1

    def built(self, seconds: float) -> None:
        self.build_seconds.observe(seconds)

    def worker_ended(self, end: WorkerEnd) -> None:
        self.ends[end.value] += 1

    def waited_for_gpus(self, seconds: float) -> None:
        self.gpu_waits.observe(seconds)

    def swapped(self) -> None:
        self.swaps += 1

    @property
    def activity(self) -> int:
        """A number that changes whenever a prediction ends."""
        return self.refused.activity + sum(counts.activity for counts in self.generations.values())

    @property
    def ended(self) -> list[int]:
        """How many predictions ended in each way of `Ended`."""
        return [
            sum(counts)
            for counts in zip(self.refused.ended, *(c.ended for c in self.generations.values()), strict=True)
        ]

    @property
    def waited_long(self) -> int:
        """How many predictions waited for a slot for over `LONG_WAIT_SECONDS`."""
        return sum(counts.waited_long for counts in (self.refused, *self.generations.values()))

    def last_code(self, *ended: Ended) -> str:
        """Return the code of a last error by which predictions ended in one of these ways, "" where none has.

        It is one of the newest generation, or else of what was in no worker.
        """
        every = [self.refused, *(self.generations[each] for each in sorted(self.generations))]
        found = (counts.last_codes.get(each) for counts in reversed(every) for each in ended)
        return next(filter(None, found), "")

    def total(self) -> PredictionCounts:
        """Return the counts of all generations together."""
        total = PredictionCounts()
        for counts in (self.refused, *self.generations.values()):
            total.add(counts)
        return total
