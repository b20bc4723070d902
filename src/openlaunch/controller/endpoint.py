"""One endpoint, as the parts that look after it share it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from openlaunch.background import BackgroundTasks
from openlaunch.controller.creation_log import CreationLogs
from openlaunch.controller.events import EventLog
from openlaunch.controller.fleet import Fleet, Traffic
from openlaunch.controller.gpu_shares import GpuShares
from openlaunch.controller.scaling import Holdings, usage_of
from openlaunch.controller.situation import Policy
from openlaunch.controller.sleepers import Sleepers
from openlaunch.controller.swap import SwapRule
from openlaunch.engines.base import Engine
from openlaunch.store.base import Store
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The controller's settings. Times are seconds. `logs` is the folder for the logs of endpoints.

    `stop_grace` is the time between SIGTERM and SIGKILL of a worker that is stopped, `lost_grace` that of a worker
    that has lost its connection or could not load. The workers of an endpoint that is deleted have `delete_grace` to
    finish what they run; a worker in which something does not stop within `interrupt_grace` has `stuck_grace` for
    what else it runs. With `limit_memory`, an endpoint's `memory` bounds what each of its workers uses. An endpoint
    is looked at after each event, and every `tick`. Workers that sleep may hold `sleep_bytes` of memory in all, and
    no more than the others leave.
    """

    logs: Path
    limit_memory: bool = True
    scale_down_after: float = 30.0
    tick: float = 0.5
    stop_grace: float = 5.0
    lost_grace: float = 1.0
    delete_grace: float = 30.0
    stuck_grace: float = 30.0
    interrupt_grace: float = 5.0
    policy: Policy = field(default_factory=Policy)
    sleep_bytes: int | None = None
    swap: SwapRule = field(default_factory=SwapRule)


SecretsOf = Callable[[str, Sequence[str]], Awaitable[Mapping[str, str]]]
"""Gives an owner's secrets of these names as environment variables; raises `EngineError` where one can't be read."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What all endpoints share.

    `environment_built` is called after each build. `clock` is for durable times. `check_leads` raises in a
    transaction, unless this server still leads.
    """

    store: Store
    fleet: Fleet
    traffic: Traffic
    engine: Engine
    settings: ControllerSettings
    logs: CreationLogs
    events: EventLog
    holdings: Holdings
    gpu_shares: GpuShares
    sleepers: Sleepers
    environment_built: Callable[[], None]
    secrets: SecretsOf
    clock: Callable[[], float]
    check_leads: Callable[[Connection], None]


class WatchedEndpoint:
    """An endpoint's record, and where to say what happens to it."""

    def __init__(self, record: EndpointRecord, parts: Parts) -> None:
        self.record = record
        self.parts = parts
        self.tasks = BackgroundTasks(f"a background task of endpoint {record.name!r} failed")
        self.changed = asyncio.Event()
        """Set when something has happened that the plan may depend on."""
        self.now = asyncio.get_running_loop().time
        self._workers = 0

    @property
    def id(self) -> str:
        return self.record.id

    def adopt(self, record: EndpointRecord) -> None:
        """Go by this record from now on; an older generation's is ignored."""
        if record.generation >= self.record.generation:
            self.record = record
            self.hold(self._workers)
            self.parts.traffic.update_endpoint(record)
            self.changed.set()

    def hold(self, workers: int) -> None:
        """Note how many workers there are, for what these hold."""
        self._workers = workers
        self.parts.holdings.set(self.id, usage_of(self.record.spec, workers))

    @property
    def is_rolling_out(self) -> bool:
        """Whether the newest generation is on its way to being ready."""
        return self.record.status in (EndpointStatus.UPDATE_PENDING, EndpointStatus.UPDATE_IN_PROGRESS)

    async def secrets(self, generation: int, bundle: BundleRecord) -> Mapping[str, str]:
        """Return the secrets of a generation's workers; a batch job's endpoint has those of the bundle's owner."""
        record = self.record
        owner = bundle.owner if record.owner == record.id else record.owner
        return await self.parts.secrets(owner, record.spec_of(generation).secrets or ())

    def note(self, text: str) -> None:
        """Add lines to the log of the endpoint's creation."""
        self.parts.logs.add(self.id, text)

    def tell(self, kind: EventKind, detail: str = "") -> None:
        self.parts.events.add(self.id, kind, detail)
