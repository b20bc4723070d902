"""What the gateway and the engine report of workers and builds, passed on to the endpoints' supervisors."""

from collections.abc import Callable

from openlaunch.controller.supervisor import Supervisor
from openlaunch.engines.documents import WorkerExit


class Reports:
    """Implements `FleetEvents` and `EngineEvents`. Reports of endpoints that were deleted are ignored.

    Ids say which endpoint they belong to: a worker's is the endpoint's id, a dot and the worker's short id, and a
    build's is the endpoint's id, a dot and the generation.
    """

    def __init__(
        self, supervisor_of: Callable[[str], Supervisor | None], note: Callable[[str, str, str], None]
    ) -> None:
        self._of = supervisor_of
        self._note = note

    def worker_ready(self, worker_id: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.ready(worker_id)

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.load_failed(worker_id, reason, traceback)

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.stuck(worker_id, reason)

    def worker_leaving(self, worker_id: str, reason: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.leaving(worker_id, reason)

    def worker_worn(self, worker_id: str, reason: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.worn(worker_id, reason)

    def worker_unhealthy(self, worker_id: str, reason: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.unhealthy(worker_id, reason)

    def worker_rested(self, worker_id: str, problem: str) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.rested(worker_id, problem)

    def worker_lost(self, worker_id: str, reason: str = "") -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.lost(worker_id, reason)

    def worker_note(self, worker_id: str, text: str) -> None:
        self._note(worker_id.rpartition(".")[0], worker_id, text)

    def prediction_failed(self, endpoint_id: str) -> None:
        if (supervisor := self._of(endpoint_id)) is not None:
            supervisor.endpoint.changed.set()

    def demand(self, endpoint_id: str) -> None:
        if (supervisor := self._of(endpoint_id)) is not None:
            supervisor.demand()

    def worker_ended(self, worker_id: str, ended: WorkerExit) -> None:
        if (supervisor := self._of_part(worker_id)) is not None:
            supervisor.events.ended(worker_id, ended)

    def build_started(self, build_id: str) -> None:
        if (supervisor := self._of_part(build_id)) is not None:
            supervisor.generations.build_started(int(build_id.rpartition(".")[2]))

    def build_said(self, build_id: str, line: str) -> None:
        if (supervisor := self._of_part(build_id)) is not None:
            supervisor.endpoint.note(line)

    def build_does(self, build_id: str, step: str) -> None:
        if (supervisor := self._of_part(build_id)) is not None:
            supervisor.generations.build_does(int(build_id.rpartition(".")[2]), step)

    def _of_part(self, part_id: str) -> Supervisor | None:
        return self._of(part_id.rpartition(".")[0])
