"""What is measured of a language model's requests, under OpenTelemetry's names for generative AI."""

from openlaunch.server.metrics.histograms import Histogram
from openlaunch.wire import routes

_OPERATIONS = {
    routes.COMPLETIONS: "text_completion",
    routes.EMBEDDINGS: "embeddings",
    routes.RERANK: "rerank",
    routes.SCORE: "score",
    routes.SPEECH: "speech",
    routes.COUNT_TOKENS: "count_tokens",
} | dict.fromkeys(routes.MODEL_FORMS, "transcription")


def operation_of(route: str) -> str:
    """Return the operation of a route that speaks OpenAI, as the conventions name it."""
    return _OPERATIONS.get(routes.MODEL_ROUTES_V2.get(route, route), "chat")


DURATION = tuple(0.01 * 2**step for step in range(14))
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(4**step for step in range(14))
"""The upper bounds of the buckets that the conventions ask for: of times in seconds, and of tokens."""

MAX_ERRORS = 20
"""Types of errors that are measured apart; further ones are measured as `_OTHER`, as the conventions name them."""


class ModelCounts:
    """The requests of one operation, such as `chat`. Those that were cancelled are not among them."""

    __slots__ = ("durations", "first_token", "input", "output", "per_token")

    def __init__(self) -> None:
        self.durations: dict[str, Histogram] = {}
        """From the wait for a worker to the answer, by the type of the error; of those without one by ""."""
        self.first_token, self.per_token = Histogram(FIRST_TOKEN), Histogram(PER_TOKEN)
        """Seconds of streams until the first token, and for each token after that."""
        self.input, self.output = Histogram(TOKENS), Histogram(TOKENS)

    def failed(self, error: str, seconds: float) -> None:
        """Count a request that ended with an error, such as `429`."""
        known = error in self.durations or len(self.durations) < MAX_ERRORS
        self._duration(error if known else "_OTHER", seconds)

    def answered(self, seconds: float, used: int, made: int, first: float | None) -> None:
        """Count a request that was answered, with tokens of its input and output.

        `first` is after how many seconds the first token came, of a stream.
        """
        self._duration("", seconds)
        if used + made:
            self.input.observe(used)
            self.output.observe(made)
        if first is not None:
            self.first_token.observe(first)
            if made > 1:
                self.per_token.observe((seconds - first) / (made - 1))

    def _duration(self, error: str, seconds: float) -> None:
        self.durations.setdefault(error, Histogram(DURATION)).observe(seconds)

    def plus(self, other: "ModelCounts") -> "ModelCounts":
        """Return one with the counts of both."""
        both = ModelCounts()
        for error in self.durations | other.durations:
            mine, more = (each.durations.get(error, Histogram(DURATION)) for each in (self, other))
            both.durations[error] = mine.plus(more)
        for name in ("first_token", "per_token", "input", "output"):
            setattr(both, name, getattr(self, name).plus(getattr(other, name)))
        return both
