"""The files of batches for models: lines are read in chunks, answers and errors are written in pages."""

from collections.abc import AsyncGenerator, AsyncIterator

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import NotFound
from openlaunch.server import clock
from openlaunch.server.jobs.input_reader import InputReader
from openlaunch.server.jobs.line_orders import LinesOrder
from openlaunch.server.prediction.batch_lines import LINE_HEAD, error_line
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.usage import NOTHING, usage_in
from openlaunch.server.queue.lines import custom_id_of
from openlaunch.store import model_batches as batch_store
from openlaunch.store.base import Store
from openlaunch.store.records import FileRecord, ModelBatchRecord
from openlaunch.tasks import batch as batch_tasks
from openlaunch.tasks.batch import LineResult
from openlaunch.tasks.batch_input import InputError
from openlaunch.tasks.model_lines import Line

MAX_FILENAME = 255
PAGE_LINES = 100


def file_id_of(batch_id: str, kind: str) -> str:
    """Return the id of a batch's file of answers ("output") or errors ("error")."""
    return f"file_{batch_id.removeprefix('batch_')}_{kind}"


class ModelBatchFiles:
    """Reads the lines of batches from artifacts, and writes what became of them there."""

    def __init__(
        self, store: Store, artifacts: Artifacts, checks: Checks, most: int, max_body_bytes: int
    ) -> None:
        self.checks = checks
        self._store = store
        self._artifacts = artifacts
        self._inputs = InputReader(artifacts, most)
        self._max_body_bytes = max_body_bytes

    async def count(self, batch: ModelBatchRecord, limit: int) -> int:
        """Return the number of lines; raise InputError over `limit`, with none, or where they can't be read."""
        order = LinesOrder(batch.endpoint, count=limit + 1)
        try:
            async with self._inputs.read(batch.input_key, order) as answers:
                total = int(await anext(answers))
        except NotFound as error:
            raise InputError(f"the input file is gone: {error.message}") from None
        if not total:
            raise InputError("the input file has no line")
        if total > limit:
            raise InputError(f"the input file has over {limit} lines, which is the limit")
        return total

    async def lines(self, batch: ModelBatchRecord, *, skip: int, most: int) -> AsyncGenerator[list[Line]]:
        """Read the lines after the first `skip`, up to `most` at a time."""
        order = LinesOrder(batch.endpoint, skip=skip, most=most, max_bytes=self._max_body_bytes)
        try:
            async with self._inputs.read(batch.input_key, order) as answers:
                while chunk := await anext(answers):
                    yield chunk
        except NotFound as error:
            raise InputError(f"the input file is gone: {error.message}") from None

    async def write(self, batch: ModelBatchRecord, code: str) -> None:
        """Write the files of answers and of errors, and record them; `code` is of lines that have no answer."""
        answered = (_Lines if batch.completions is None else _Completions)(self, batch, code, succeeded=True)
        output = await self._put(batch, "output", answered)
        refused = _Lines(self, batch, code, succeeded=False)
        errors = await self._put(batch, "error", refused)
        done, usage = (answered.count, refused.count), answered.used._asdict()
        await self._store.write(
            lambda conn: batch_store.set_written(conn, batch.id, output, errors, done, usage), batch.owner
        )

    async def _put(self, batch: ModelBatchRecord, kind: str, lines: "_Lines") -> FileRecord | None:
        file_id = file_id_of(batch.id, kind)
        key = f"files/{file_id}"
        size = await self._artifacts.put(key, lines.pieces())
        if not lines.is_file:
            await self._artifacts.delete(key)
            return None
        name = lines.file_name(kind)
        # llm-engine's client reads a file as text in JSON, which is how those without a purpose are answered.
        purpose = f"batch_{kind}" if batch.completions is None else None
        return FileRecord(file_id, batch.owner, name, size, key, clock.now(), purpose)

    async def page(self, batch: ModelBatchRecord, after: int, *, succeeded: bool | None) -> list[LineResult]:
        """Read the next lines of one of the files, or of both."""
        return await self._store.read(
            lambda conn: batch_tasks.line_results(
                conn, batch.id, succeeded=succeeded, after=after, limit=PAGE_LINES
            ),
            batch.owner,
        )

    async def line(self, result: LineResult, code: str) -> bytes:
        """Return the line of a file for what became of a line; one without an answer says why, under this code."""
        line = await self._bytes(result.result, result.result_key)
        if line.startswith(LINE_HEAD):
            return line
        payload = await self._bytes(result.payload, result.payload_key)
        return error_line(result.id, custom_id_of(payload), code, result.reason or "it has no answer")

    async def _bytes(self, data: bytes | None, key: str | None) -> bytes:
        if data is not None or key is None:
            return data or b""
        try:
            return await self._artifacts.get(key)
        except NotFound:
            return b""

    async def delete(self, keys: list[str]) -> None:
        await self._artifacts.delete(*keys)


class _Lines:
    """The lines of one file, of which `count` have been given, whose answers took the tokens `used`."""

    def __init__(
        self, files: ModelBatchFiles, batch: ModelBatchRecord, code: str, *, succeeded: bool
    ) -> None:
        self._files = files
        self._batch = batch
        self._code = code
        self._succeeded = succeeded
        self.count = 0
        self.used = NOTHING

    @property
    def is_file(self) -> bool:
        """Whether there is anything to be kept."""
        return self.count > 0

    def file_name(self, kind: str) -> str:
        return f"{self._batch.id}_{kind}.jsonl"

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the lines."""
        after = 0
        while page := await self._files.page(self._batch, after, succeeded=self._succeeded):
            for result in page:
                yield await self._line(result)
            self.count += len(page)
            after = page[-1].seq

    async def _line(self, result: LineResult) -> bytes:
        line = await self._files.line(result, self._code)
        used = usage_in(line)
        # Before the body stands what was estimated where the engine has not said it.
        self.used = self.used.plus(used if used.total else usage_in(line.partition(b', "body": ')[0]))
        return line


class _Completions(_Lines):
    """The answers as llm-engine's client reads them: a list with one for each line, null for one that failed."""

    is_file = True

    def file_name(self, kind: str) -> str:
        assert self._batch.completions is not None
        return str(self._batch.completions["output_data_path"])[-MAX_FILENAME:]

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the list, in the order of the lines."""
        assert self._batch.completions is not None
        is_v1 = self._batch.completions["version"] == 1
        after, between = 0, b"["
        while page := await self._files.page(self._batch, after, succeeded=None):
            for result in page:
                line = await self._line(result)
                answer = await self._files.checks.completion_in(self._batch.owner, line, is_v1=is_v1)
                self.count += answer is not None
                yield between + (answer or b"null")
                between = b",\n"
            after = page[-1].seq
        yield b"[]" if between == b"[" else b"]"
