"""What becomes of a task: pure policies."""

import json
from enum import StrEnum


class State(StrEnum):
    """A task's states. CANCELLED is shown to clients as FAILURE with the reason."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELLED = "CANCELLED"

    @property
    def done(self) -> bool:
        """Whether the task has its result."""
        return self not in (State.PENDING, State.STARTED)


def after_death(attempts: int, max_attempts: int) -> State:
    """Return what a task becomes whose worker crashed: PENDING, until its attempts are used up."""
    return State.PENDING if attempts < max_attempts else State.FAILURE


def failure(reason: str, status_code: int) -> bytes:
    """Make the result of a task that ended without one from its model."""
    document = {"status": "FAILURE", "result": None, "traceback": reason, "status_code": status_code}
    return json.dumps(document).encode()
