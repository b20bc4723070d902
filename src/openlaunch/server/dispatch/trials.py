"""The generations of an endpoint that are on trial: a canary beside the others, or a new one on probation."""

from collections.abc import Callable

from openlaunch.controller.trial import Rule
from openlaunch.server.dispatch.outcome_counts import OutcomeCounts
from openlaunch.store.records import EndpointRecord


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
            self.counts = {g: kept.get(g) or self._new_counts(g) for g in rules}
        self._rules = rules
        self._barred &= rules.keys()

    def counts_of(self, generation: int) -> OutcomeCounts | None:
        """Return where a generation's outcomes are counted; None where it is not on trial."""
        return self.counts[generation] if generation in self._rules else None

    def is_barred(self, generation: int) -> bool:
        return generation in self._barred

    def _new_counts(self, generation: int) -> OutcomeCounts:
        return OutcomeCounts(lambda: self._prediction_failed(generation))

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
