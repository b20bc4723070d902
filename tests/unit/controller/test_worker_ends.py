"""Why a worker has ended, by what was known of it and how its process ended."""

import pytest

from openlaunch.controller.roster import WorkerState
from openlaunch.controller.situation import Phase
from openlaunch.controller.worker_events import end_of
from openlaunch.engines.documents import KILLED_CODE, WorkerExit
from openlaunch.wire.workers import WorkerEnd

EXITED, KILLED = WorkerExit(0, None), WorkerExit(None, 9)


@pytest.mark.parametrize(
    ("phase", "known", "ended", "end"),
    [
        (Phase.DRAINING, None, EXITED, WorkerEnd.DRAINED),
        (Phase.DRAINING, None, WorkerExit(1, None), WorkerEnd.EXITED),
        (Phase.STOPPING, None, KILLED, WorkerEnd.STOPPED),
        (Phase.STOPPING, WorkerEnd.LOAD_FAILED, WorkerExit(1, None), WorkerEnd.LOAD_FAILED),
        (Phase.DRAINING, WorkerEnd.STUCK, KILLED, WorkerEnd.STUCK),
        (Phase.LOST, WorkerEnd.LOST, KILLED, WorkerEnd.LOST),
        (Phase.READY, None, WorkerExit(None, 9, out_of_memory=True), WorkerEnd.OUT_OF_MEMORY),
        (Phase.READY, None, WorkerExit(KILLED_CODE, None), WorkerEnd.KILLED),
        (Phase.STARTING, None, WorkerExit(None, 11), WorkerEnd.SIGNAL),
        (Phase.READY, None, WorkerExit(3, None), WorkerEnd.EXITED),
        (Phase.READY, None, WorkerExit(None, None, node="one:8001, which is away"), WorkerEnd.NODE_AWAY),
    ],
)
def test_an_end_has_one_reason(phase, known, ended, end):
    worker = WorkerState("endpoint.worker", 1, 0.0, 0.0, phase=phase, end=known)
    assert end_of(worker, ended) is end
