"""Triggers (`/v1/triggers`): image jobs, or tasks of an async endpoint, at the times of a cron schedule."""

import time
from typing import Any

from fastapi import Response

from openlaunch.server import clock
from openlaunch.server.control.answers import InPages, listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routes.image_jobs import find_image_bundle
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import found
from openlaunch.server.endpoints.specs import wrong_field
from openlaunch.server.jobs.triggers import MAX_ARGS_BYTES, BadSchedule, next_time, task_body
from openlaunch.store import triggers as trigger_store
from openlaunch.store.records import TriggerRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.ids import object_id
from openlaunch.wire.triggers import (
    CreateTriggerRequest,
    CreateTriggerResponse,
    DeleteTriggerResponse,
    ListTriggersResponse,
    TriggerResponse,
    UpdateTriggerRequest,
    UpdateTriggerResponse,
)


def router(context: Context) -> ControlRouter:
    """Create, list, get, change and delete triggers."""
    api = ControlRouter(prefix=routes.TRIGGERS, tags=["triggers"])

    @api.post("")
    async def create_trigger(body: CreateTriggerRequest, user: User) -> CreateTriggerResponse:
        """Run a bundle's image, or submit a task to an async endpoint, at the times of a cron schedule."""
        # What each job or task would be refused for is refused now.
        if body.endpoint is not None:
            await _check_task(context, user.owner, body.endpoint, body.args)
        else:
            bundle = await find_image_bundle(context, body.bundle_id or "", user.owner)
            context.image_jobs.new_job(bundle, body.default_job_config, body.default_job_metadata or {})
        record = TriggerRecord(
            id=object_id("trg"),
            owner=user.owner,
            name=body.name,
            cron_schedule=body.cron_schedule,
            bundle_id=body.bundle_id,
            default_job_config=body.default_job_config,
            default_job_metadata=body.default_job_metadata,
            suspended=False,
            next_at=_next(body.cron_schedule, time.time()),
            created_at=clock.now(),
            endpoint_name=body.endpoint,
            args=body.args,
        )
        await context.store.write(lambda conn: trigger_store.insert(conn, record), user.owner)
        context.triggers.changed()
        return CreateTriggerResponse(trigger_id=record.id)

    @api.get("", response_model=ListTriggersResponse)
    async def list_triggers(user: User) -> Response:
        """List the caller's triggers, newest first."""
        ids = await context.store.read(lambda conn: trigger_store.ids_of_owner(conn, user.owner), user.owner)
        return listed("triggers", InPages(context.store, ids, trigger_store.get_many, user.owner), _response)

    @api.get("/{trigger_id}")
    async def get_trigger(trigger_id: str, user: User) -> TriggerResponse:
        """Get one trigger."""
        return _response(await _find(context, trigger_id, user.owner))

    @api.put("/{trigger_id}")
    async def update_trigger(
        trigger_id: str, body: UpdateTriggerRequest, user: User
    ) -> UpdateTriggerResponse:
        """Change a trigger's schedule or args, suspend it, or resume it. Times while it is suspended are skipped."""
        record = await _find(context, trigger_id, user.owner)
        args = record.args
        if body.args is not None:
            if record.endpoint_name is None:
                raise wrong_field("args", "the trigger starts image jobs, which have no args")
            args = body.args
            await _check_task(context, user.owner, record.endpoint_name, args)
        schedule = record.cron_schedule if body.cron_schedule is None else body.cron_schedule
        suspended = record.suspended if body.suspend is None else body.suspend
        values: dict[str, Any] = {"cron_schedule": schedule, "suspended": suspended, "args": args}
        if schedule != record.cron_schedule or suspended != record.suspended:
            values["next_at"] = _next(schedule, time.time())
        await context.store.write(lambda conn: trigger_store.change(conn, record.id, **values), user.owner)
        context.triggers.changed()
        return UpdateTriggerResponse(success=True)

    @api.delete("/{trigger_id}")
    async def delete_trigger(trigger_id: str, user: User) -> DeleteTriggerResponse:
        """Delete a trigger; its jobs and tasks stay, and those that run continue."""
        await _find(context, trigger_id, user.owner)
        deleted = await context.store.write(
            lambda conn: trigger_store.delete(conn, user.owner, trigger_id), user.owner
        )
        return DeleteTriggerResponse(success=deleted)

    return api


def _next(schedule: str, now: float) -> float:
    try:
        return next_time(schedule, now)
    except BadSchedule as error:
        raise wrong_field("cron_schedule", str(error)) from None


async def _check_task(context: Context, owner: str, name: str, args: dict[str, Any] | None) -> None:
    """Raise what a request with these args would be refused with."""
    lane = found(
        context.lanes.by_name.get(owner, name), f"you have no endpoint named {name!r}", "endpoint_not_found"
    )
    if lane.endpoint.endpoint_type is not EndpointType.ASYNC:
        kind = lane.endpoint.endpoint_type.value
        raise wrong_field(
            "endpoint", f"{name!r} is a {kind} endpoint: tasks are for async ones, which endpoint_type says"
        )
    body = task_body(args)
    if len(body) > MAX_ARGS_BYTES:
        raise wrong_field(
            "args",
            f"they are {len(body)} bytes, the limit is {MAX_ARGS_BYTES}: name a file by its URL instead",
        )
    schemas = await context.schemas.get(lane.endpoint.serving_bundle_id)
    await context.schemas.checks.one(owner, body, schemas)


async def _find(context: Context, trigger_id: str, owner: str) -> TriggerRecord:
    record = await context.store.read(lambda conn: trigger_store.get(conn, owner, trigger_id), owner)
    return found(record, f"no trigger has the id {trigger_id!r}", "trigger_not_found")


def _response(record: TriggerRecord) -> TriggerResponse:
    return shown(
        TriggerResponse,
        record,
        created_by=record.owner,
        docker_image_batch_job_bundle_id=record.bundle_id or "",
        endpoint=record.endpoint_name,
        next_at=None if record.suspended else record.next_at,
    )
