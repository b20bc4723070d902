"""Counts how the predictions of generations on trial end: a canary and the others, or a new one on probation."""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from openlaunch.controller.trial import MAX_KEPT_FAILURES, Rule, Trial
from openlaunch.server.metrics.histograms import Histogram
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.failures import reason_of
from openlaunch_worker.frames import Body, Outcome

MAX_ERROR = 300


class OutcomeCounts:
    """Counts in the event loop's thread; `on_failure` is called after each failure that may decide something."""

    def __init__(self, on_failure: Callable[[], None], first_item_seconds: float | None = None) -> None:
        """Count a stream as failed whose first item came later than `first_item_seconds`."""
        self.ran = Histogram()
        """The times in the workers of those that were answered."""
        self._on_failure = on_failure
        self._first_item_seconds = first_item_seconds or math.inf
        self._requests = 0
        self._failures = 0
        self._failed_at: list[int] = []
        self._error: str | None = None

    def ended(self, outcome: int, payload: Body, seconds: float, first_item: float = 0.0) -> None:
        """Count an answer of a worker after this time; a cancelled prediction says nothing about the bundle.

        `first_item` is when the first item of a stream came.
        """
        if outcome == Outcome.CANCELLED:
            return
        self.ran.observe(seconds)
        if outcome == Outcome.FAILURE:
            self.failed(lambda: error_of(bytes(payload)))
        elif first_item > (allowed := self._first_item_seconds):
            self.failed(lambda: f"the first item came after {first_item:.3g} s, {allowed:g} s are allowed")
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
    """Return why a prediction failed, from its answer's bytes: a result's, or those of a stream's last event."""
    try:
        document: dict[str, Any] = json.loads(payload.removeprefix(b"data: "))
        reason = reason_of(document, MAX_ERROR)
    except (ValueError, AttributeError, RecursionError):
        reason = ""
    return reason or "the answer does not say why"


class Trials:
    """Counts how predictions of generations on trial end, and bars a generation that has failed too often.

    `on_barred` is called when one is barred: its workers get nothing more, and the controller ends it after that.
    """

    def __init__(self, on_barred: Callable[[], None]) -> None:
        self.counts: dict[int, OutcomeCounts] = {}
        """By generation. Those of the last trial are kept after its end, to show how it went."""
        self._rules: dict[int, Rule | None] = {}
        self._barred: set[int] = set()
        self._on_barred = on_barred

    def update(self, endpoint: EndpointRecord) -> None:
        """Count for the trials of the changed endpoint; a trial that lasts keeps its counts."""
        rules = _rules(endpoint)
        if rules and rules.keys() != self._rules.keys():
            kept = {g: counts for g, counts in self.counts.items() if g in self._rules}
            canary = endpoint.live_canary
            slow = {} if canary is None else {canary.generation: canary.first_item_seconds}
            self.counts = {
                g: kept.get(g) or OutcomeCounts(partial(self._prediction_failed, g), slow.get(g))
                for g in rules
            }
        self._rules = rules
        self._barred &= rules.keys()

    def counts_of(self, generation: int) -> OutcomeCounts | None:
        """Return where a generation's outcomes are counted; None where it is not on trial."""
        return self.counts[generation] if generation in self._rules else None

    def times(self, generation: int) -> Histogram:
        """Return how long a generation's answers took in their workers; nothing of one that was not on trial."""
        counts = self.counts.get(generation)
        return Histogram() if counts is None else counts.ran

    def is_barred(self, generation: int) -> bool:
        return generation in self._barred

    def _prediction_failed(self, generation: int) -> None:
        rule = self._rules.get(generation)
        if rule is None or generation in self._barred:
            return
        if self.counts[generation].trial().verdict(rule) is not None:
            self._barred.add(generation)
            self._on_barred()


def _rules(endpoint: EndpointRecord) -> dict[int, Rule | None]:
    """Return the generations whose predictions are counted, and the rule that each has to keep to.

    Of a canary both sides are counted; else the newest generation where it is on probation.
    """
    rule = Rule.of(endpoint.spec) if endpoint.replaces_another else None
    if (canary := endpoint.live_canary) is not None:
        return {endpoint.generation: rule, canary.generation: Rule.of(canary)}
    return {endpoint.generation: rule} if rule is not None else {}
