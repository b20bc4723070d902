"""What stands in for a lane where the slots of a worker are not used over a link."""

from collections.abc import AsyncIterator

from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.links import Expected, WorkerLink
from openlaunch.server.dispatch.work import Work
from openlaunch.server.settings import WorkerSettings
from openlaunch_worker.documents import Limits, Start


class Beside:
    """Stands in for a lane: requests come to the link from elsewhere, or not at all."""

    def __init__(self, lane: Lane) -> None:
        self.tally, self.numbers, self.serves = lane.tally, lane.numbers, lane.serves

    def ignore(self, worker: WorkerLink) -> None:
        """Do nothing."""

    def wait_again(self, work: Work) -> None:
        """Do nothing: no work runs over the link."""

    add_worker = remove_worker = freed = heard = ignore


def expected_of(worker_id: str, generation: int, settings: WorkerSettings) -> Expected:
    """Return what is known of a worker that another server has started, or that gets its bundle over another link."""
    limits = Limits(0, settings.max_result_bytes, settings.max_body_bytes, 0.0, False)
    return Expected(worker_id, Start({}, limits), _nothing, settings.interrupt_grace_seconds, generation)


def _nothing() -> AsyncIterator[bytes]:
    raise AssertionError("a worker gets its bundle from the leader")
