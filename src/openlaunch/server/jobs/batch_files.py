"""The files of batch jobs: inputs are read and checked in chunks, results are written in pages."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

import orjson

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, NotFound
from openlaunch.server.prediction.inputs import PredictInput, check_document
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.submitting import REFUSED_STATUS_CODE
from openlaunch.store.base import Store
from openlaunch.store.records import BatchJobRecord
from openlaunch.tasks import batch
from openlaunch.tasks.batch_input import BadRow, InputError, Row, rows
from openlaunch.tasks.batch_output import JsonResults, PickledResults
from openlaunch.tasks.states import failure
from openlaunch.wire.batch_jobs import SerializationFormat

CHUNK_BYTES = 4 * 1024 * 1024
PAGE_RESULTS = 100
PIECE_SECONDS = 60.0
UNDONE_STATUS_CODE = 504

Chunk = list[tuple[PredictInput, bytes | None]]
"""Inputs; beside each, the result of one that is refused."""

_REFUSED = PredictInput(b"")
"""Stands among the inputs for one that is refused."""


class BatchFiles:
    """Reads the inputs of batch jobs from artifacts, and writes their results there."""

    def __init__(self, store: Store, artifacts: Artifacts) -> None:
        self._store = store
        self._artifacts = artifacts

    async def count(self, job: BatchJobRecord, limit: int) -> int:
        """Return the number of the job's inputs; raise InputError over `limit`, or where the file can't be read."""
        try:
            total = await asyncio.to_thread(_length, self._rows(job), limit + 1)
        except NotFound as error:
            raise InputError(f"the input is gone: {error.message}") from None
        if total > limit:
            raise InputError(f"the input has over {limit} entries, which is the limit")
        return total

    async def chunks(
        self, job: BatchJobRecord, schemas: BundleSchemas, *, skip: int, most: int
    ) -> AsyncIterator[Chunk]:
        """Read the inputs after the first `skip`, up to `most` at a time."""
        pickled = job.serialization_format is SerializationFormat.PICKLE
        source = islice(self._rows(job), skip, None)
        while chunk := await asyncio.to_thread(_next_chunk, source, schemas, pickled, most):
            yield chunk

    def _rows(self, job: BatchJobRecord) -> Iterator[Row]:
        loop = asyncio.get_running_loop()
        return rows(_pulled(self._artifacts.stream(job.input_key), loop))

    async def write_results(self, job: BatchJobRecord) -> str:
        """Write the job's results in the order of its inputs, and return the key of their file."""
        pickled = job.serialization_format is SerializationFormat.PICKLE
        writer = PickledResults() if pickled else JsonResults()
        key = f"batch-results/{job.id}.{writer.suffix}"
        await self._artifacts.put(key, self._result_bytes(job, writer))
        return key

    async def _result_bytes(
        self, job: BatchJobRecord, writer: JsonResults | PickledResults
    ) -> AsyncIterator[bytes]:
        count = after = 0
        while page := await self._store.read(
            lambda conn, after=after: batch.results(conn, job.id, after, PAGE_RESULTS),  # type: ignore[misc]
            job.owner,
        ):
            yield b"".join([await self._entry(result, writer) for result in page])
            count += len(page)
            after = page[-1].seq
        undone = failure("the job ended before it was this input's turn", UNDONE_STATUS_CODE)
        for _ in range((job.total or 0) - count):
            yield writer.body(undone)
        yield writer.end()

    async def _entry(self, result: batch.BatchResult, writer: JsonResults | PickledResults) -> bytes:
        if result.result is not None:
            return writer.body(result.result)
        key = result.result_key or ""
        try:
            data = await self._artifacts.get(key)
        except NotFound as error:
            return writer.body(failure(f"the result is gone: {error.message}", 500))
        return writer.value(data) if key.endswith(".pkl") else writer.body(data)

    async def delete(self, keys: list[str]) -> None:
        for key in keys:
            await self._artifacts.delete(key)


def _pulled(pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield the pieces in a thread beside the loop's."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    while True:
        piece = asyncio.run_coroutine_threadsafe(following(), loop).result(PIECE_SECONDS)
        if piece is None:
            return
        yield piece


def _length(source: Iterator[Row], limit: int) -> int:
    return sum(1 for _ in islice(source, limit))


def _next_chunk(source: Iterator[Row], schemas: BundleSchemas, pickled: bool, most: int) -> Chunk:
    chunk: Chunk = []
    size = 0
    for row in source:
        predict_input, refusal = _checked(row, schemas, pickled)
        chunk.append((predict_input, None if refusal is None else failure(refusal, REFUSED_STATUS_CODE)))
        size += len(predict_input.body)
        if len(chunk) == most or size > CHUNK_BYTES:
            break
    return chunk


def _checked(row: Row, schemas: BundleSchemas, pickled: bool) -> tuple[PredictInput, str | None]:
    """Return an input, or the reason for which it is refused."""
    if isinstance(row, BadRow):
        return _REFUSED, row.reason
    document = row | {"return_pickled": True} if pickled else row
    try:
        return check_document(document, orjson.dumps(document), schemas), None
    except APIError as error:
        details = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors)
        return _REFUSED, f"{error.message}: {details}" if details else error.message
    except TypeError as error:
        return _REFUSED, f"the input can't be sent: {error}"
