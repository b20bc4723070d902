"""When a batch of requests is due, and what comes of what predict returned for it: pure functions."""

from dataclasses import dataclass
from typing import Any

from openlaunch_worker.failures import Refusal


@dataclass(frozen=True, slots=True)
class BatchRule:
    """A batch has `max_size` requests at most, and its first waits at most `max_wait` seconds for the others."""

    max_size: int
    max_wait: float


def seconds_until_due(rule: BatchRule, count: int, since: float, now: float) -> float:
    """Return how long a batch of `count` requests, the first of which came at `since`, has to wait."""
    if count >= rule.max_size:
        return 0.0
    return max(0.0, since + rule.max_wait - now)


def results_of(returned: Any, count: int) -> list[Any]:
    """Return the result of each request; an array has one in each row.

    Raise `Refusal` if predict did not return a list of `count` results.
    """
    if hasattr(returned, "tolist") and getattr(returned, "shape", None):
        returned = list(returned)
    if not isinstance(returned, list):
        what = f"an object of type {type(returned).__qualname__}"
    elif len(returned) != count:
        what = f"a list of {len(returned)}"
    else:
        return returned
    raise Refusal(
        f"predict_fn was called with a list of {count} inputs and returned {what}: with max_batch_size, it has to "
        "return a list with one result for each input, in the same order"
    )
