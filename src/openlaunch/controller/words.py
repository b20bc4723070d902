"""Sentences that statuses and explanations share."""

from openlaunch.controller.situation import Build, Situation

BUILD_PROGRESS = {
    Build.QUEUED: "the environment waits for those of other endpoints to be built",
    Build.BUILDING: "the environment is being built",
}


def does_not_fit(s: Situation) -> str:
    """Say that the machine is too small for the workers that the load asks for."""
    return f"{s.desired} workers are wanted, and {s.limit} fit this machine's cores and memory"


def count_of_workers(count: int) -> str:
    """Return "1 worker", or "3 workers"."""
    return "1 worker" if count == 1 else f"{count} workers"
