"""What is seen of an endpoint: its workers, its builds, and why it serves or not."""

from collections.abc import Mapping

from openlaunch.controller.creation_log import CreationLogs
from openlaunch.controller.fleet import Traffic
from openlaunch.controller.roster import WorkerNow
from openlaunch.controller.supervisor import Supervisor
from openlaunch.engines.base import Nodes
from openlaunch.wire.why import EndpointWhy


class View:
    """Reads the supervisors, which the controller adds and removes, and changes nothing."""

    def __init__(
        self, supervisors: Mapping[str, Supervisor], traffic: Traffic, nodes: Nodes, logs: CreationLogs
    ) -> None:
        self._supervisors = supervisors
        self._traffic = traffic
        self._nodes = nodes
        self.creation_log = logs.read

    def workers(self, endpoint_id: str) -> tuple[int, int]:
        """Count workers that take requests, and workers on their way to that; a canary's are left out."""
        if (supervisor := self._supervisors.get(endpoint_id)) is None:
            return self._traffic.workers(endpoint_id), 0
        canary = supervisor.endpoint.record.canary
        return supervisor.roster.counts(canary.generation if canary else None)

    def workers_now(self, endpoint_id: str) -> list[tuple[WorkerNow, str]]:
        """Return an endpoint's workers, each with the address of its node; none where another server leads."""
        supervisor = self._supervisors.get(endpoint_id)
        found = [] if supervisor is None else supervisor.roster.described()
        return [(worker, self._nodes.address_of(worker.id)) for worker in found]

    def workers_of(self, endpoint_id: str, generation: int) -> int:
        """Count the workers of this generation that take requests."""
        supervisor = self._supervisors.get(endpoint_id)
        return 0 if supervisor is None else supervisor.roster.ready_of(generation)

    def explain(self, endpoint_id: str) -> EndpointWhy | None:
        """Say why it serves or does not; None for an endpoint that was deleted."""
        supervisor = self._supervisors.get(endpoint_id)
        return None if supervisor is None else supervisor.explain()

    def build_progress(self, endpoint_id: str, generation: int) -> str | None:
        """Say which part of a generation's environment is being built, and for how long; None where nothing is."""
        supervisor = self._supervisors.get(endpoint_id)
        return None if supervisor is None else supervisor.generations.build_progress(generation)
