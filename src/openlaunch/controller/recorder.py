"""Writes where an endpoint and its canary stand into the store, and says so in the log and in events."""

import logging

from sqlalchemy import Connection

from openlaunch.controller.actions import SetCanary, SetStatus
from openlaunch.controller.endpoint import WatchedEndpoint
from openlaunch.controller.events import Scale, scaling_event
from openlaunch.store import endpoints
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind

log = logging.getLogger(__name__)


class Recorder:
    """Records changes of an endpoint's status, canary and scale."""

    def __init__(self, endpoint: WatchedEndpoint) -> None:
        self._endpoint = endpoint
        self._scale: Scale | None = None

    async def set_status(self, action: SetStatus) -> None:
        """Store a status, unless a newer generation was asked for meanwhile."""
        endpoint, before = self._endpoint, self._endpoint.record
        now = endpoint.parts.clock()

        def write(conn: Connection) -> EndpointRecord | None:
            endpoint.parts.check_leads(conn)
            endpoints.set_status(
                conn,
                before.id,
                before.generation,
                action.status,
                action.reason,
                now,
                ready_generation=action.ready_generation,
                ready_bundle_id=action.ready_bundle_id,
                rejected_generation=action.rejected_generation,
            )
            return endpoints.get(conn, before.id)

        record = await endpoint.parts.store.write(write, before.owner)
        if record is None or record == before:
            return
        endpoint.adopt(record)
        if (record.status, record.status_reason) != (before.status, before.status_reason):
            # What a model has raised may hold its input, which is for the endpoint's owner alone.
            public = "its first predictions failed" if record.is_rejected else record.status_reason
            log.info("endpoint %r: %s%s", record.name, record.status, _after_colon(public))
            endpoint.note(f"{record.status}{_after_colon(record.status_reason)}")
        self._tell_outcome(before, record)

    def _tell_outcome(self, before: EndpointRecord, now: EndpointRecord) -> None:
        failed = EndpointStatus.UPDATE_FAILED
        if now.ready_generation not in (None, before.ready_generation):
            detail = f"generation {now.ready_generation}, bundle {now.ready_bundle_id}"
            self._endpoint.tell(EventKind.ROLLED_OUT, detail)
        elif before.status is failed and now.status is EndpointStatus.READY:
            self._endpoint.tell(EventKind.RECOVERED)
        if now.status is failed and (before.status is not failed or before.generation != now.generation):
            self._endpoint.tell(EventKind.UPDATE_FAILED, now.status_reason or "")

    async def set_canary(self, action: SetCanary) -> None:
        endpoint, before = self._endpoint, self._endpoint.record

        def write(conn: Connection) -> EndpointRecord | None:
            endpoint.parts.check_leads(conn)
            endpoints.set_canary(conn, before.id, action.generation, action.status, action.reason)
            return endpoints.get(conn, before.id)

        record = await endpoint.parts.store.write(write, before.owner)
        if record is None or record == before:
            return
        endpoint.adopt(record)
        text = f"{action.status}{_after_colon(action.reason)}"
        log.info("endpoint %r: its canary is %s", record.name, action.status)
        endpoint.note(f"canary {text}")
        endpoint.tell(EventKind.CANARY, text)

    def set_scale(self, wanted: int, *, gives: bool) -> None:
        """Add an event where the number of workers changes. During a roll-out it says nothing about the load."""
        endpoint, spec = self._endpoint, self._endpoint.record.spec
        low, high = spec.min_workers, spec.max_workers
        if endpoint.is_rolling_out:
            self._scale = Scale(low, 0, 0, low, high)  # without any load
            return
        load = endpoint.parts.traffic.load(endpoint.id)
        scale = Scale(wanted, load.in_flight, load.queued, low, high, gives)
        if (event := scaling_event(self._scale, scale)) is not None:
            endpoint.tell(*event)
        self._scale = scale


def _after_colon(text: str | None) -> str:
    return f": {text}" if text else ""
