"""Batches of requests to models (`/v1/batches`), for clients of OpenAI's API."""

import re
from typing import Annotated

from fastapi import Query

from openlaunch.errors import Unprocessable
from openlaunch.server import clock
from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import found
from openlaunch.server.prediction.usage import TokenUsage
from openlaunch.store import files as file_store
from openlaunch.store import model_batches as batch_store
from openlaunch.store.records import ModelBatchRecord
from openlaunch.wire import routes
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.ids import object_id
from openlaunch.wire.model_batches import (
    MAX_WINDOW_SECONDS,
    WINDOW_PATTERN,
    WINDOW_UNITS,
    BatchError,
    BatchErrors,
    BatchInputDetails,
    BatchOutputDetails,
    BatchResponse,
    BatchStatus,
    BatchUsage,
    CreateBatchRequest,
    ListBatchesResponse,
    RequestCounts,
)

BATCHED = routes.MODEL_ROUTES - {routes.SPEECH, routes.COUNT_TOKENS}
"""Routes of which a model makes answers in JSON, as lines of a file are."""
MAX_INPUT_BYTES = 200 * 1024 * 1024

Limit = Annotated[int, Query(ge=1, le=100)]


def router(context: Context) -> ControlRouter:
    """Create, list, get and cancel batches."""
    api = ControlRouter(prefix=routes.MODEL_BATCHES, tags=["batches"])

    @api.post("")
    async def create_batch(body: CreateBatchRequest, user: User) -> BatchResponse:
        """Start a batch over a file of requests that was uploaded before.

        Its lines run in slots that other requests to the models leave free.
        """
        seconds = _seconds(body.completion_window)
        if body.endpoint not in BATCHED:
            raise _misfit("endpoint", f"it is not one of {', '.join(sorted(BATCHED))}")
        if body.output_expires_after is not None:
            raise _misfit("output_expires_after", "files are kept until they are deleted: leave it out")
        record = await context.store.read(
            lambda conn: file_store.get(conn, body.input_file_id, user.owner), user.owner
        )
        file = found(record, f"no file has the id {body.input_file_id!r}", "file_not_found")
        if file.size > MAX_INPUT_BYTES:
            raise _misfit("input_file_id", f"the file has {file.size} bytes, {MAX_INPUT_BYTES} are allowed")
        now = clock.now()
        batch = ModelBatchRecord(
            id=object_id("batch"),
            owner=user.owner,
            status=BatchJobStatus.PENDING,
            endpoint=body.endpoint,
            input_file_id=file.id,
            input_key=file.key,
            completion_window=body.completion_window,
            key_id=user.key_id,
            created_at=now,
            expires_at=now + seconds,
            metadata=body.metadata or {},
        )
        await context.model_batches.runner.create(batch)
        return await _response(context, batch)

    @api.get("")
    async def list_batches(user: User, after: str | None = None, limit: Limit = 20) -> ListBatchesResponse:
        """List the caller's batches, newest first; `after` is the last one of the page before."""
        if after is not None:
            await context.model_batches.runner.get(user.owner, after)
        page = await context.store.read(
            lambda conn: batch_store.list_page(conn, user.owner, after, limit + 1), user.owner
        )
        data = [await _response(context, batch) for batch in page[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return ListBatchesResponse(data=data, first_id=first, last_id=last, has_more=len(page) > limit)

    @api.get("/{batch_id}")
    async def get_batch(batch_id: str, user: User) -> BatchResponse:
        """Get a batch's status, its progress, and the ids of its files of answers and errors once it has ended."""
        return await _response(context, await context.model_batches.runner.get(user.owner, batch_id))

    @api.post("/{batch_id}/cancel")
    async def cancel_batch(batch_id: str, user: User) -> BatchResponse:
        """Cancel a batch: what runs is stopped, and the answers that there are can be read."""
        await context.model_batches.runner.cancel(user.owner, batch_id)
        return await _response(context, await context.model_batches.runner.get(user.owner, batch_id))

    return api


def _misfit(field: str, text: str) -> Unprocessable:
    errors = [{"loc": ["body", field], "msg": text, "type": "value_error"}]
    return Unprocessable(f"{field}: {text}", errors=errors)


def _seconds(window: str) -> float:
    """Return how long a completion window is."""
    match = re.fullmatch(WINDOW_PATTERN, window)
    assert match is not None  # the model of the request has seen to that
    seconds = int(match[1]) * WINDOW_UNITS[match[2]]
    if seconds > MAX_WINDOW_SECONDS:
        raise _misfit("completion_window", "it is over 30d, which is the limit")
    return seconds


async def _response(context: Context, batch: ModelBatchRecord) -> BatchResponse:
    status = _status(batch)
    ended = None if batch.finished_at is None else int(batch.finished_at)
    failed = status is BatchStatus.FAILED
    message = batch.status_reason or "it failed"
    counts = await context.model_batches.counts(batch)
    return shown(
        BatchResponse,
        batch,
        status=status,
        errors=BatchErrors(data=[BatchError(code="invalid_file", message=message)]) if failed else None,
        created_at=int(batch.created_at),
        expires_at=int(batch.expires_at),
        in_progress_at=None if batch.started_at is None else int(batch.started_at),
        finalizing_at=ended if status in (BatchStatus.FINALIZING, BatchStatus.COMPLETED) else None,
        cancelling_at=ended if status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED) else None,
        request_counts=RequestCounts(**counts._asdict()),
        usage=None if batch.usage is None else _usage(TokenUsage(**batch.usage)),
        **({f"{status.value}_at": ended} if status in _ENDED else {}),
    )


def _usage(used: TokenUsage) -> BatchUsage:
    return BatchUsage(
        input_tokens=used.input,
        input_tokens_details=BatchInputDetails(cached_tokens=used.cached),
        output_tokens=used.output,
        output_tokens_details=BatchOutputDetails(reasoning_tokens=used.reasoning),
        total_tokens=used.total,
    )


_ENDED = (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


def _status(batch: ModelBatchRecord) -> BatchStatus:
    """Return the status as OpenAI's API has it: a batch whose files are not written yet has not ended there."""
    is_written = batch.completed is not None or batch.cleared
    match batch.status:
        case BatchJobStatus.PENDING:
            return BatchStatus.VALIDATING
        case BatchJobStatus.RUNNING:
            return BatchStatus.IN_PROGRESS
        case BatchJobStatus.FAILURE:
            return BatchStatus.FAILED
        case BatchJobStatus.CANCELLED:
            return BatchStatus.CANCELLED if is_written else BatchStatus.CANCELLING
        case BatchJobStatus.TIMEOUT:
            return BatchStatus.EXPIRED if is_written else BatchStatus.FINALIZING
        case _:
            return BatchStatus.COMPLETED if is_written else BatchStatus.FINALIZING
