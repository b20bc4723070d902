"""The files of batch jobs: inputs are read and checked in chunks, results are written in pages."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import NotFound, PayloadTooLarge, Unprocessable
from openlaunch.server.jobs.batch_orders import CHUNK_BYTES, REFUSED, Chunk, Order
from openlaunch.server.jobs.input_reader import InputReader
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.refusals import REFUSED_STATUS_CODE
from openlaunch.store.base import Store
from openlaunch.store.records import BatchJobRecord
from openlaunch.tasks import batch
from openlaunch.tasks.batch_input import InputError
from openlaunch.tasks.batch_output import JsonResults, PickledResults
from openlaunch.tasks.states import failure
from openlaunch.wire.batch_jobs import SerializationFormat

PAGE_RESULTS = 100
PIECE_BYTES = 1024 * 1024
UNDONE_STATUS_CODE = 504


class BatchFiles:
    """Reads the inputs of batch jobs from artifacts, and writes their results there."""

    def __init__(
        self, store: Store, artifacts: Artifacts, uploads: FilesById, jobs: int, max_input_bytes: int
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._max_input_bytes = max_input_bytes
        self._artifacts = artifacts
        self._inputs = InputReader(artifacts, jobs)

    async def count(self, job: BatchJobRecord, limit: int) -> int:
        """Return the number of the job's inputs; raise InputError over `limit`, or where the file can't be read."""
        order = Order(count=limit + 1)
        try:
            async with self._inputs.read(job.input_key, order) as answers:
                total = await anext(answers)
        except NotFound as error:
            raise InputError(f"the input is gone: {error.message}") from None
        if total > limit:
            raise InputError(f"the input has over {limit} entries, which is the limit")
        return int(total)

    async def chunks(
        self, job: BatchJobRecord, schemas: BundleSchemas, *, skip: int, most: int
    ) -> AsyncGenerator[Chunk]:
        """Read the inputs after the first `skip`, up to `most` at a time."""
        pickled = job.serialization_format is SerializationFormat.PICKLE
        order = Order(
            source=schemas.source, pickled=pickled, skip=skip, most=most, max_bytes=self._max_input_bytes
        )
        async with self._inputs.read(job.input_key, order) as answers:
            while chunk := await anext(answers):
                yield chunk

    async def with_uploads(self, owner: str, chunk: Chunk) -> AsyncGenerator[Chunk]:
        """Yield the inputs of a chunk with the uploaded files that they name, as much at once as is read at once."""
        ready: Chunk = []
        size = 0
        for predict_input, result in chunk:
            one = predict_input, result
            if predict_input.files:
                one = await self._with_files(owner, predict_input)
                size += len(one[0].body)
            if size > CHUNK_BYTES and ready:
                yield ready
                ready, size = [], len(one[0].body)
            ready.append(one)
        yield ready

    async def _with_files(self, owner: str, predict_input: PredictInput) -> tuple[PredictInput, bytes | None]:
        def hold(size: int) -> None:
            """Refuse nothing: one input is read at a time."""

        try:
            [filled] = await self._uploads.in_json(owner, [predict_input], self._max_input_bytes, hold)
        except (Unprocessable, PayloadTooLarge) as refusal:
            return REFUSED, failure(refusal.message, REFUSED_STATUS_CODE)
        return filled, None

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
            async for piece in self._entries(page, writer):
                yield piece
            count += len(page)
            after = page[-1].seq
        undone = failure("the job ended before it was this input's turn", UNDONE_STATUS_CODE)
        for _ in range((job.total or 0) - count):
            yield writer.body(undone)
        yield writer.end()

    async def _entries(
        self, page: Sequence[batch.BatchResult], writer: JsonResults | PickledResults
    ) -> AsyncIterator[bytes]:
        """Make the bytes of a page of results; large ones are not held together."""
        pieces: list[bytes] = []
        for result in page:
            pieces.append(await self._entry(result, writer))
            if sum(map(len, pieces)) > PIECE_BYTES:
                yield b"".join(pieces)
                pieces.clear()
        yield b"".join(pieces)

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
        await self._artifacts.delete(*keys)
