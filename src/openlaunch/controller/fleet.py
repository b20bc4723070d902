"""What the controller needs of the gateway: the fleet of connected workers, and the traffic of each endpoint.

The gateway's `server.dispatch` implements `Fleet` and `Traffic`; the controller implements `FleetEvents`. Everything
here happens in the event loop's thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from openlaunch.controller.trial import Trial
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.workers import WorkerEnd


@dataclass(frozen=True, slots=True)
class Load:
    """The load on one endpoint: requests in workers, requests and tasks waiting, sync and async together."""

    in_flight: int
    queued: int


class Fleet(Protocol):
    """The workers that are connected to the gateway, or expected to be."""

    @property
    def address(self) -> str:
        """Where workers connect to, for `WorkerSpec.address`."""

    def expect(
        self,
        worker_id: str,
        token: str,
        endpoint: EndpointRecord,
        bundle: BundleRecord,
        generation: int,
        secrets: Mapping[str, str],
    ) -> None:
        """Let a worker with this token get this bundle, and once ready its generation's share of requests.

        `secrets` are environment variables beside those of the endpoint.
        """

    def terms(
        self, endpoint: EndpointRecord, bundle: BundleRecord, generation: int, secrets: Mapping[str, str]
    ) -> str:
        """Return a digest of what such a worker is sent at its start; only what was sent the same is adopted."""

    def drain(self, worker_id: str) -> None:
        """Send the worker no further requests; it exits when it has finished what runs.

        One that is not ready yet is never sent any, and exits once it is.
        """

    def rest(self, worker_id: str) -> None:
        """Send the worker no further requests, and have its server sleep when it has finished what runs."""

    def wake(self, worker_id: str) -> None:
        """Wake up the server of a worker that sleeps; it is ready again then."""

    def forget(self, worker_id: str, reason: str, *, with_node: bool = False) -> None:
        """Forget a worker that has ended; `reason` says how ("was killed by signal 9").

        Its connection is closed; what it ran is failed or retried with that reason. Unknown ids are ignored. A worker
        that is away with its whole node tells nothing against what it ran.
        """

    def leave(self) -> None:
        """Leave the workers to another server, which leads now; what they run for this one continues."""

    def is_wanted(self, worker_id: str) -> bool:
        """Return whether the worker runs anything that has not been cancelled."""

    def is_excused(self, worker_id: str) -> bool:
        """Return whether its bundle is not to blame: it has answered, or runs alone a task that ended others."""


class Traffic(Protocol):
    """What endpoints are asked for: their load, and what waits for a worker."""

    def load(self, endpoint_id: str) -> Load:
        """Return the endpoint's load now."""

    def workers(self, endpoint_id: str) -> int:
        """Count the workers that take the endpoint's requests from this server, whichever server leads them."""

    def trials(self, endpoint_id: str) -> dict[int, Trial]:
        """Return how predictions have ended, by generation, where a canary or a probation makes them count."""

    def numbers(self, endpoint_id: str) -> "Numbers":
        """Return where what happens to the endpoint is counted; of one that was deleted, nothing is kept."""

    def update_endpoint(self, endpoint: EndpointRecord) -> None:
        """Route predictions by this record, which is new or has changed."""

    def remove_endpoint(self, endpoint_id: str) -> None:
        """Refuse whatever waits for the endpoint, which is deleted."""

    def set_elsewhere(self, *, elsewhere: bool) -> None:
        """Refuse sync and streaming requests without a worker at once while another server has the workers."""

    def fail_waiting(self, endpoint_id: str, reason: str) -> None:
        """Refuse sync and streaming requests that wait (503), because no worker can be started.

        Async tasks stay queued. A later `update_endpoint` or a worker that becomes ready ends this state.
        """


class Numbers(Protocol):
    """Where what happens to an endpoint is counted."""

    def built(self, seconds: float) -> None:
        """Count how long the build of an environment took, from its turn on."""

    def worker_ended(self, end: WorkerEnd) -> None:
        """Count why a worker ended."""

    def waited_for_gpus(self, seconds: float) -> None:
        """Count how long the endpoint waited for the GPUs of a worker, until it had them."""

    def swapped(self) -> None:
        """Count a worker that the endpoint gives up, because others wait for its GPUs."""


class FleetEvents(Protocol):
    """What the gateway reports to the controller."""

    def worker_ready(self, worker_id: str) -> None:
        """Note that the worker has loaded its bundle and takes requests."""

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """Note that the bundle could not be loaded, and that the worker is about to exit."""

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        """Replace a worker in which something does not stop, and keeps its slot."""

    def worker_leaving(self, worker_id: str, reason: str) -> None:
        """Replace a worker that was drained because it asked for that: it got a SIGTERM, or its memory is used up."""

    def worker_worn(self, worker_id: str, reason: str) -> None:
        """Replace a worker that serves, once another one does."""

    def worker_unhealthy(self, worker_id: str, reason: str) -> None:
        """Replace a worker that was drained because its bundle's health_fn says no."""

    def worker_rested(self, worker_id: str, problem: str) -> None:
        """Note that the worker's server sleeps now; with a problem, that it could not fall asleep, or not wake up."""

    def worker_lost(self, worker_id: str, reason: str = "") -> None:
        """Note that the worker's connection has ended without a DRAIN: the worker is dead or dying.

        `reason` says how it broke the protocol, where that is why.
        """

    def worker_note(self, worker_id: str, text: str) -> None:
        """Write the server's own lines to the worker's log, which may have ended."""

    def prediction_failed(self, endpoint_id: str) -> None:
        """Check whether failures are over the limit, because a prediction that counts in a trial has failed."""

    def demand(self, endpoint_id: str) -> None:
        """Look at the endpoint's scale now, because a request or task found no free slot."""
