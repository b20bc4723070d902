"""Whether a bundle that is new to an endpoint has failed its first predictions: pure functions of their counts."""

from dataclasses import dataclass
from typing import Protocol

MAX_KEPT_FAILURES = 100
"""Failures that are kept with their place among the predictions: the most that a rule can ask for."""

PROBATION_SECONDS = 600.0
"""How long the older workers are kept at most while the first predictions are counted."""

DEFAULT_AMONG = 20
DEFAULT_CANARY_FAILURES = 5


class RollbackSettings(Protocol):
    """What an endpoint's spec and a canary have in common."""

    @property
    def rollback_after_failures(self) -> int | None:
        """Failures in the probation window that roll a bundle back; 0 and None disable it."""

    @property
    def probation_requests(self) -> int | None:
        """Number of predictions in the probation window."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Roll back after `failures` failures among the first `among` predictions."""

    failures: int
    among: int

    @classmethod
    def of(cls, settings: "RollbackSettings") -> "Rule | None":
        """Return the rule that the settings ask for; None where it is off."""
        failures = settings.rollback_after_failures or 0
        among = settings.probation_requests or max(DEFAULT_AMONG, failures)
        return cls(failures, among) if failures else None


@dataclass(frozen=True, slots=True)
class Trial:
    """How a generation's predictions have ended: places of the first failures, from 1, and the last one's error."""

    requests: int = 0
    failures: int = 0
    failed_at: tuple[int, ...] = ()
    error: str | None = None

    def verdict(self, rule: Rule | None) -> str | None:
        """Say why the generation is to be rolled back, as the head of a sentence; None while it is not."""
        if rule is None or len(self.failed_at) < rule.failures:
            return None
        last = self.failed_at[rule.failures - 1]
        if last > rule.among:
            return None
        return f"{rule.failures} of the first {last} predictions"

    def is_over(self, rule: Rule) -> bool:
        return self.requests >= rule.among


def failed_predictions(trial: Trial, rule: Rule | None, bundle: str) -> str | None:
    """Return a sentence such as "4 of the first 5 predictions of the bundle b failed: ValueError: …", or None."""
    head = trial.verdict(rule)
    return head and f"{head} of the bundle {bundle} failed: {trial.error or 'no reason was given'}"
