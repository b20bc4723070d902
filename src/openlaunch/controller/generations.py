"""The generations of one endpoint: their bundles, environments and failures."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from openlaunch.controller.backoff import History
from openlaunch.controller.endpoint import WatchedEndpoint
from openlaunch.controller.roster import Roster
from openlaunch.controller.situation import Build, Generation
from openlaunch.controller.trial import Trial
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import BuildOrder, Resources
from openlaunch.store import bundles
from openlaunch.store.records import BundleRecord
from openlaunch.wire.bundles import ArtifactFlavor, Flavor, TritonEnhancedRunnableImageFlavor
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.events import EventKind
from openlaunch_worker.prefetch_urls import shown

log = logging.getLogger(__name__)

MAX_REASON = 2000
LOAD_MARGIN = 60.0
"""Seconds for all else than waiting for a bundle's own server, which the worker bounds."""


@dataclass(slots=True)
class GenerationState:
    """A generation's bundle, environment and history.

    `ready_since` is when its first worker became ready, `build_since` when its environment had its turn.
    """

    build: Build = Build.NONE
    history: History = field(default_factory=History)
    bundle: BundleRecord | None = None
    environment: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready_since: float | None = None
    build_step: str = ""
    build_since: float = 0.0

    def seen(self, trial: Trial) -> Generation:
        return Generation(
            self.build,
            self.history,
            load_seconds=None if self.bundle is None else load_seconds(self.bundle.flavor),
            trial=trial,
            ready_since=self.ready_since,
            bundle_name=None if self.bundle is None else self.bundle.name,
            build_step=self.build_step,
            build_since=self.build_since,
        )


class Generations:
    """Builds the environments of an endpoint's generations, and remembers how each has failed."""

    def __init__(self, endpoint: WatchedEndpoint, roster: Roster) -> None:
        self._endpoint = endpoint
        self._roster = roster
        self._states: dict[int, GenerationState] = {}

    def get(self, number: int) -> GenerationState:
        """Return a generation's state. When a new one comes, those that nothing refers to are dropped."""
        if number not in self._states:
            record = self._endpoint.record
            kept = {*self._roster.generations(), record.generation, record.ready_generation or 0}
            kept |= {record.canary.generation} if record.canary else set()
            self._states = {n: state for n, state in self._states.items() if n in kept}
            self._states[number] = GenerationState()
        return self._states[number]

    def seen(self, trials: Mapping[int, Trial]) -> dict[int, Generation]:
        return {number: state.seen(trials.get(number, Trial())) for number, state in self._states.items()}

    def environments(self) -> set[str]:
        return {state.environment for state in self._states.values() if state.environment is not None}

    def begin_build(self, number: int, bundle_id: str) -> None:
        """Build a generation's environment in the background."""
        endpoint, state = self._endpoint, self.get(number)
        state.build = Build.QUEUED
        title = f"generation {number}: bundle {bundle_id}"
        if number == endpoint.record.generation and state.history.failure is None:
            endpoint.parts.logs.begin(endpoint.id, title)
        else:
            endpoint.note(title)
        endpoint.tasks.spawn(self._build(number, state, bundle_id))

    async def _build(self, number: int, state: GenerationState, bundle_id: str) -> None:
        endpoint, parts = self._endpoint, self._endpoint.parts
        began = endpoint.now()
        try:
            if (bundle := await parts.store.read(lambda conn: bundles.get(conn, bundle_id))) is None:
                raise EngineError(f"the bundle {bundle_id} was deleted")
            state.secrets = await endpoint.secrets(number, bundle)
            spec = endpoint.record.spec_of(number)
            if spec.prefetch:
                endpoint.tell(EventKind.PREFETCHING, ", ".join(map(shown, spec.prefetch)))
            state.environment = await parts.engine.builds.prepare(
                BuildOrder(
                    f"{endpoint.id}.{number}",
                    bundle.flavor,
                    resources_of(endpoint.record.spec),
                    bundle.owner,
                    tuple(spec.prefetch or ()),
                    {**(spec.env or {}), **state.secrets},
                )
            )
            state.bundle, state.build = bundle, Build.BUILT
            endpoint.tell(EventKind.ENVIRONMENT_BUILT)
            if state.build_since:
                parts.traffic.numbers(endpoint.id).built(endpoint.now() - state.build_since)
            parts.environment_built()
        except Exception as error:
            self._failed(state, began, error)
        endpoint.changed.set()

    def build_started(self, number: int) -> None:
        state = self.get(number)
        state.build, state.build_step, state.build_since = Build.BUILDING, "", self._endpoint.now()
        self._endpoint.tell(EventKind.ENVIRONMENT_BUILDING)
        self._endpoint.changed.set()

    def build_does(self, number: int, step: str) -> None:
        """Note what a build does now. Nothing is planned or stored because of that."""
        self.get(number).build_step = step

    def build_progress(self, number: int) -> str | None:
        """Say which part of a generation's environment is being built, and for how long; None where nothing is."""
        state = self._states.get(number)
        return None if state is None else state.seen(Trial()).build_progress(self._endpoint.now())

    def _failed(self, state: GenerationState, began: float, error: Exception) -> None:
        endpoint = self._endpoint
        if not isinstance(error, EngineError):
            log.error("the environment of endpoint %r failed", endpoint.record.name, exc_info=error)
        reason = str(error)[:MAX_REASON] or type(error).__name__
        endpoint.note(reason)
        endpoint.tell(EventKind.ENVIRONMENT_FAILED, reason)
        state.build = Build.NONE
        state.history = state.history.load_failed(endpoint.now(), began, reason)


def resources_of(spec: EndpointSpec) -> Resources:
    """Return what one worker of an endpoint is given."""
    return Resources(spec.cores, spec.memory_bytes, spec.gpus, spec.gpu_type or "")


def load_seconds(flavor: Flavor) -> float | None:
    """Return how long a worker may take to become ready; None where its bundle does not say so."""
    if isinstance(flavor, ArtifactFlavor):
        return None
    own, triton = flavor.readiness_initial_delay_seconds, 0
    if isinstance(flavor, TritonEnhancedRunnableImageFlavor):
        triton = flavor.triton_readiness_initial_delay_seconds
    return own + triton + LOAD_MARGIN
