"""Batch completions (`/v1/llm/batch-completions`, `/v2/batch-completions`): batches, for llm-engine's client.

They are the batches of `/v1/batches`: a request is a line of a file that is made here, at the endpoint that the model
names, and not a job with engines of its own.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from openlaunch.server import clock
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import found
from openlaunch.server.jobs.model_batch_files import file_id_of
from openlaunch.server.prediction.completions import lines_of_content, misfit
from openlaunch.store import files as file_store
from openlaunch.store.records import FileRecord, ModelBatchRecord
from openlaunch.wire import routes
from openlaunch.wire.batch_completions import (
    CancelCompletionsResponse,
    CompletionsJob,
    CompletionsStatus,
    CreateCompletionsRequest,
    CreateCompletionsV1Request,
    CreateCompletionsV1Response,
    GetCompletionsResponse,
    V1Content,
)
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.ids import object_id

MAX_INPUT_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 1 << 20
DAY = 24 * 3600
_USUAL = {"data_parallelism": (None, 1), "num_shards": (None, 1), "trust_remote_code": (None, False)}
"""What the client sends for parameters that were not given, where that is not null."""


def router(context: Context) -> ControlRouter:
    """Create, get and cancel batch completions."""
    api = ControlRouter(tags=["batches"])

    @api.post(routes.BATCH_COMPLETIONS_V1)
    async def create_batch_completions_v1(
        body: CreateCompletionsV1Request, user: User
    ) -> CreateCompletionsV1Response:
        """Complete many prompts in slots that other requests to the model leave free."""
        return CreateCompletionsV1Response(job_id=(await _create(context, body, user, 1)).id)

    @api.post(routes.BATCH_COMPLETIONS)
    async def create_batch_completions(body: CreateCompletionsRequest, user: User) -> CompletionsJob:
        """Answer many chats or prompts in slots that other requests to the model leave free."""
        version = 1 if isinstance(body.content, V1Content) else 2
        return _job(await _create(context, body, user, version))

    @api.get(routes.BATCH_COMPLETIONS + "/{job_id}")
    async def get_batch_completions(job_id: str, user: User) -> GetCompletionsResponse:
        """Get a job's status, and the id of its file of answers."""
        return GetCompletionsResponse(job=_job(await _find(context, user.owner, job_id)))

    @api.post(routes.BATCH_COMPLETIONS + "/{job_id}/actions/cancel")
    async def cancel_batch_completions(job_id: str, user: User) -> CancelCompletionsResponse:
        """Cancel a job: what runs is stopped, and the answers that there are can be read."""
        await _find(context, user.owner, job_id)
        return CancelCompletionsResponse(
            success=await context.model_batches.runner.cancel(user.owner, job_id)
        )

    return api


async def _find(context: Context, owner: str, job_id: str) -> ModelBatchRecord:
    """Find a job; raise NotFound where there is none, and for a batch that is not one."""
    batch = await context.model_batches.runner.get(owner, job_id)
    return found(
        batch if batch.completions is not None else None,
        f"the batch {job_id!r} is one of /v1/batches",
        "batch_not_found",
    )


async def _create(
    context: Context, body: CreateCompletionsV1Request | CreateCompletionsRequest, user: User, version: int
) -> ModelBatchRecord:
    _check(body)
    if (body.content is None) == (body.input_data_path is None):
        raise misfit("content", "give it, or input_data_path, and not both")
    model = body.config.model
    if body.content is not None:
        asked = lines_of_content(body.content, model)
    else:
        data = await _content_of_file(context, user.owner, body.input_data_path or "")
        asked = await context.schemas.checks.lines_of_content(user.owner, data, model)
    if version == 1 and not asked.is_v1:
        raise misfit("content", "prompts are needed here; lists of requests are for /v2/batch-completions")
    now, batch_id = clock.now(), object_id("batch")
    file = await _put(context, user.owner, batch_id, asked.lines)
    seconds = body.max_runtime_sec or DAY
    batch = ModelBatchRecord(
        id=batch_id,
        owner=user.owner,
        status=BatchJobStatus.PENDING,
        endpoint=asked.route,
        input_file_id=file.id,
        input_key=file.key,
        completion_window=f"{seconds}s",
        key_id=user.key_id,
        created_at=now,
        expires_at=now + seconds,
        metadata={**(body.config.labels or {}), **(body.labels or {})},
        completions={
            "version": 1 if asked.is_v1 else version,
            "model": model,
            "input_data_path": body.input_data_path,
            "output_data_path": body.output_data_path,
        },
    )
    await context.model_batches.runner.create(batch)
    return batch


def _check(body: CreateCompletionsV1Request | CreateCompletionsRequest) -> None:
    """Refuse what can't be honoured: the endpoint says how its engine is started, and batches have no priorities."""
    if "://" in body.output_data_path:
        raise misfit(
            "output_data_path",
            "it is a URL, a name is needed: the answers become a file of /v1/files, whose id the job says",
        )
    for fields in (body.config.model_extra or {}, body.model_extra or {}):
        for name, value in fields.items():
            if value not in _USUAL.get(name, (None,)):
                raise misfit(
                    name,
                    "the endpoint that `model_config.model` names decides this, and batches run in slots that "
                    "others leave free: leave it out",
                )


async def _content_of_file(context: Context, owner: str, file_id: str) -> bytes:
    record = await context.store.read(lambda conn: file_store.get(conn, file_id, owner), owner)
    hint = "upload one to /v1/files, and give its id"
    file = found(record, f"no file has the id {file_id!r}: {hint}", "file_not_found")
    if file.size > MAX_INPUT_BYTES:
        raise misfit(
            "input_data_path",
            f"the file has {file.size} bytes, {MAX_INPUT_BYTES} are allowed: larger ones are for /v1/batches",
        )
    return b"".join([piece async for piece in context.artifacts.stream(file.key, MAX_INPUT_BYTES)])


async def _put(context: Context, owner: str, batch_id: str, lines: bytes) -> FileRecord:
    """Store the requests as the input file of a batch."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(lines), PIECE_BYTES):
            yield lines[start : start + PIECE_BYTES]

    file_id = file_id_of(batch_id, "input")
    key, name = f"files/{file_id}", f"{batch_id}_input.jsonl"
    async with context.uploads.upload(owner) as counted:
        size = await context.artifacts.put(key, counted(pieces()))
        file = FileRecord(file_id, owner, name, size, key, clock.now(), "batch")
        await context.store.write(lambda conn: file_store.insert(conn, file), owner)
    return file


def _job(batch: ModelBatchRecord) -> CompletionsJob:
    asked = batch.completions or {}
    reason = {} if batch.status_reason is None else {"status_reason": batch.status_reason}
    return CompletionsJob(
        job_id=batch.id,
        input_data_path=asked["input_data_path"],
        output_data_path=file_id_of(batch.id, "output"),
        model_config={"model": asked["model"]},
        status=_status(batch),
        created_at=_time(batch.created_at),
        expires_at=_time(batch.expires_at),
        completed_at=None if batch.finished_at is None else _time(batch.finished_at),
        metadata=batch.metadata | reason,
    )


def _status(batch: ModelBatchRecord) -> CompletionsStatus:
    """Return the status; a job runs until its files are written."""
    match batch.status:
        case BatchJobStatus.PENDING:
            return CompletionsStatus.QUEUED
        case BatchJobStatus.FAILURE:
            return CompletionsStatus.FAILED
    if batch.completed is None and not batch.cleared:
        return CompletionsStatus.RUNNING
    match batch.status:
        case BatchJobStatus.CANCELLED:
            return CompletionsStatus.CANCELLED
        case BatchJobStatus.TIMEOUT:
            return CompletionsStatus.FAILED
        case _:
            return CompletionsStatus.COMPLETED


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
