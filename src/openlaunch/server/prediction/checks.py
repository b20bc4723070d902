"""Checks of inputs and results: in the event loop's thread where they are quick, else in a process of their own."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pickle import PickleBuffer
from typing import Any, TypeVar

from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.batch_lines import body_of_line
from openlaunch.server.prediction.completions import Lines, as_sent, completion_in
from openlaunch.server.prediction.compute_process import ProcessApart
from openlaunch.server.prediction.inputs import (
    ModelInput,
    PredictInput,
    check_args,
    check_bodies,
    check_body,
    check_model,
    check_parts,
    check_sync_body,
    files_in_json,
    is_light,
    is_quick,
    with_usage,
    with_value,
    without_auth,
)
from openlaunch.server.prediction.results import failed_response, response_error
from openlaunch.server.prediction.schemas import QUICK_BYTES, BundleSchemas, TakesLong
from openlaunch.server.prediction.signatures import Signature
from openlaunch.server.prediction.tensors import Inference, read_inference
from openlaunch.turns import Turns
from openlaunch_worker.frames import Body

PROCESSES = 2
_MODULE = "openlaunch.server.prediction.check_process"
_NO_SCHEMAS = BundleSchemas({})
Input = TypeVar("Input", PredictInput, ModelInput)


class Checks:
    """Checks inputs and results; what takes long is done in processes at which owners take turns."""

    def __init__(self) -> None:
        self._turns = Turns(PROCESSES)
        self._idle = [ProcessApart(_MODULE) for _ in range(PROCESSES)]
        self._all = list(self._idle)
        self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="checks")

    async def one(self, owner: str, body: Body, schemas: BundleSchemas) -> PredictInput:
        """Check the body of a task; raises what `check_body` does."""
        return await self._of_one(check_body, "one", owner, body, schemas)

    async def one_sync(self, owner: str, body: Body, schemas: BundleSchemas) -> PredictInput:
        """Check the body of a sync request; raises what `check_sync_body` does."""
        return await self._of_one(check_sync_body, "one_sync", owner, body, schemas)

    async def args(self, owner: str, body: Body, schemas: BundleSchemas) -> PredictInput:
        """Check a body that is the args alone; raises what `check_args` does."""
        return await self._of_one(check_args, "args", owner, body, schemas)

    async def parts(self, owner: str, document: Body, schemas: BundleSchemas) -> PredictInput:
        """Check the document behind a request's parts; raises what `check_parts` does."""
        return await self._of_one(check_parts, "parts", owner, document, schemas)

    async def files_in_json(self, owner: str, body: Body, *, args_alone: bool) -> Body:
        """Return a request with parts as JSON; raises what `check_parts` does.

        A large bytearray is emptied, so that both are not in memory together.
        """
        if len(body) <= QUICK_BYTES:
            return files_in_json(body, args_alone=args_alone)
        found: Body = await self._apart(owner, "files_in_json", body, args_alone, gives=True)
        return found

    async def inference(
        self,
        owner: str,
        body: Body,
        head_size: int,
        signature: Signature,
        head: Mapping[str, str],
        limit: int,
    ) -> Inference:
        """Read a request of the Open Inference Protocol; raises what `read_inference` does."""
        if is_light(body if head_size == len(body) else bytes(body[:head_size])):
            return read_inference(body, head_size, signature, head, limit)
        found: Inference = await self._apart(owner, "inference", body, head_size, signature, head, limit)
        return found

    async def model(self, owner: str, body: Body) -> ModelInput:
        """Check a body that names a model; raises what `check_model` does."""
        return await self._of_one(check_model, "model", owner, body, _NO_SCHEMAS)

    async def completion(self, owner: str, body: Body, model: str, *, is_stream: bool) -> bytes:
        """Return the body that an engine gets for one of llm-engine's; raises what `as_sent` does."""
        if len(body) <= QUICK_BYTES:
            return as_sent(body, model, is_stream=is_stream)
        found: bytes = await self._apart(owner, "completion", body, model, is_stream)
        return found

    async def completion_of(
        self, owner: str, status: int, body: Body, request_id: str
    ) -> tuple[int, bytes] | None:
        """Return what `completion_of` does of a large answer."""
        found: tuple[int, bytes] | None = await self._apart(owner, "completion_of", body, status, request_id)
        return found

    async def lines_of_content(self, owner: str, data: bytes, model: str) -> Lines:
        """Return the lines for a file with a content; raises what `read_content` does."""
        found: Lines = await self._apart(owner, "read_content", data, model)
        return found

    async def completion_in(self, owner: str, line: bytes, *, is_v1: bool) -> bytes | None:
        """Return the answer in a line as `completion_in` does; None also for one that takes too long to read."""
        if len(line) <= QUICK_BYTES:
            return completion_in(line, is_v1=is_v1)
        try:
            found: bytes | None = await self._apart(owner, "completion_in", line, is_v1)
        except Unprocessable:
            return None
        return found

    async def body_of_line(self, owner: str, answer: Body) -> bytes:
        """Return what `body_of_line` does of an answer."""
        if len(answer) <= QUICK_BYTES:
            return body_of_line(answer)
        found: bytes = await self._apart(owner, "body_of_line", answer)
        return found

    async def with_value(self, owner: str, body: Body, key: str, value: object) -> bytes:
        """Return a body that was checked with another value of a key; raises what `with_value` does."""
        if len(body) <= QUICK_BYTES:
            return with_value(body, key, value)
        found: bytes = await self._apart(owner, "with_value", body, key, value)
        return found

    async def with_usage(self, owner: str, asked: ModelInput) -> Body:
        """Return the body of a stream that asks for its usage; raises what `with_value` does."""
        if asked.stream_options is None:
            return with_usage(asked)
        return await self.with_value(owner, asked.body, "stream_options", asked.options_with_usage)

    async def _of_one(
        self,
        check: Callable[[Body, BundleSchemas], Input],
        name: str,
        owner: str,
        body: Body,
        schemas: BundleSchemas,
    ) -> Input:
        """Check the body of one prediction here, or where that would take long by the check of this name apart."""
        if is_quick(body, schemas):
            try:
                return check(body, schemas)
            except TakesLong:
                pass
        found: Input = await self._apart(owner, name, body, schemas.source)
        return found._replace(body=body)

    async def many(self, owner: str, body: Body, schemas: BundleSchemas) -> list[PredictInput]:
        """Check the body of a bulk submit; raises what `check_bodies` does."""
        if is_quick(body, schemas):
            try:
                return check_bodies(body, schemas)
            except TakesLong:
                pass
        found = await self._apart(owner, "many", body, schemas.source)
        inputs = []
        for one, (start, end) in found:
            inputs.append(one._replace(body=bytes(body[start:end])))
            await asyncio.sleep(0)  # the copies together take long
        return inputs

    async def response(self, owner: str, body: Body, schemas: BundleSchemas) -> Body:
        """Return the body of a SUCCESS, or a FAILURE if the value does not fit the response schema."""
        if not schemas.has_response:
            return body
        try:
            quick = len(body) <= schemas.response.quick_bytes
            error = (
                response_error(body, schemas) if quick else await self._response_apart(owner, body, schemas)
            )
        except TakesLong:
            error = await self._response_apart(owner, body, schemas)
        return body if error is None else failed_response(error)

    async def _response_apart(self, owner: str, body: Body, schemas: BundleSchemas) -> str | None:
        found: str | None = await self._apart(owner, "response", body, schemas.source)
        return found

    async def schemas(self, owner: str, data: bytes) -> dict[str, Any]:
        """Read the document at a `schema_location`; raises what `read_schemas` does."""
        found: dict[str, Any] = await self._apart(owner, "schemas", data)
        return found

    async def without_auth(self, owner: str, payload: Body) -> bytes | None:
        """Mask the secrets of the callback in a payload; raises what `without_auth` does."""
        if is_light(payload):
            return without_auth(payload)
        found: bytes | None = await self._apart(owner, "without_auth", payload)
        return found

    async def _apart(self, owner: str, name: str, body: Body, *args: object, gives: bool = False) -> Any:
        """Call a function of a process with a body; one that it `gives` is emptied once the process has it."""
        async with self._turns.of(owner):
            process = self._idle.pop()
            given = body if gives and isinstance(body, bytearray) else None
            call = asyncio.get_running_loop().run_in_executor(
                self._threads, partial(process.call, name, PickleBuffer(body), *args, given=given)
            )
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                process.kill()  # nobody waits for it, and others do for the process
                while not call.done():  # even if this is cancelled again, the process is still in use
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([call])
                raise
            finally:
                self._idle.append(process)

    async def stop(self) -> None:
        """End the processes."""
        for process in self._all:
            process.kill()
        await asyncio.to_thread(self._threads.shutdown)
        for process in self._all:
            process.stop()
