"""Says once that an endpoint's callbacks fail, and once that they are taken again."""

from collections.abc import Callable

from openlaunch.tasks.outbox import Attempt, Delivery
from openlaunch.wire.events import EventKind

LEAST = 3
"""Attempts in a row that fail before there is an event."""

MAX_ENDPOINTS, MAX_RECEIVERS = 1000, 100
"""Endpoints whose callbacks fail that are remembered, and receivers of each; the oldest are forgotten."""


class FailingReceivers:
    """Knows which receivers of each endpoint take no callbacks. Used in the event loop's thread."""

    def __init__(self, tell: Callable[[str, EventKind, str], None]) -> None:
        self._tell = tell
        self._failures: dict[str, dict[str, int]] = {}
        """By endpoint and receiver: how many attempts in a row have failed."""

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        """Count an attempt, and tell of a beginning or an end; notifications belong to no endpoint."""
        endpoint_id, receiver = delivery.endpoint_id, delivery.receiver
        if not endpoint_id:
            return
        failing = self._failures.setdefault(endpoint_id, {})
        if attempt.taken:
            was_event = failing.pop(receiver, 0) >= LEAST
            if was_event and all(count < LEAST for count in failing.values()):
                self._tell(endpoint_id, EventKind.CALLBACKS_TAKEN, f"by {receiver}")
        else:
            before = failing.get(receiver, 0)
            failing[receiver] = (
                max(before, delivery.failures) + 1
            )  # it has failed before this server started, too
            if before < LEAST <= failing[receiver]:
                self._tell(endpoint_id, EventKind.CALLBACKS_FAIL, f"{receiver}: {attempt.error}")
        self._forget(endpoint_id)

    def _forget(self, endpoint_id: str) -> None:
        failing = self._failures[endpoint_id]
        if not failing:
            del self._failures[endpoint_id]
        for known, most in ((failing, MAX_RECEIVERS), (self._failures, MAX_ENDPOINTS)):
            if len(known) > most:
                del known[next(iter(known))]
