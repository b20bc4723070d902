"""Uploaded files whose ids stand in the args of requests: their bytes come behind the body, as those of a form."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import NotFound, PayloadTooLarge, Unprocessable
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.inputs import PredictInput, parse_json
from openlaunch.store import files as file_store
from openlaunch.store.base import Store
from openlaunch.store.records import FileRecord
from openlaunch.wire import routes
from openlaunch_worker.files import File
from openlaunch_worker.frames import Flags, document_behind, with_parts

MAX_IDS = 1000
"""Limit on the uploaded files that one request, or all of a bulk submit together, may name."""


class FilesById:
    """Puts an owner's uploaded files in the place of their ids."""

    def __init__(self, store: Store, artifacts: Artifacts, checks: Checks) -> None:
        self._store = store
        self._artifacts = artifacts
        self._checks = checks

    async def behind(
        self, owner: str, inputs: Sequence[PredictInput], limit: int, hold: Callable[[int], None]
    ) -> list[PredictInput]:
        """Return inputs with the files that they name behind their bodies, as a worker gets them.

        `hold` is called with what all of it takes, in bytes, before a file is read, and may refuse that.

        Raises:
            Unprocessable: an id is not that of a file of the owner's, or there are too many.
            PayloadTooLarge: it takes more than the limit.
        """
        if not any(each.files for each in inputs):
            return list(inputs)
        found = await self._find(owner, inputs)
        size = sum(len(each.body) for each in inputs)
        size += sum(found[file_id].size for each in inputs for _, file_id in each.files)
        if size > limit:
            raise PayloadTooLarge(f"the body has {size} bytes with its files, the limit is {limit} bytes")
        hold(size)
        return [await self._filled(each, found) if each.files else each for each in inputs]

    async def in_json(
        self, owner: str, inputs: Sequence[PredictInput], limit: int, hold: Callable[[int], None]
    ) -> list[PredictInput]:
        """Return inputs with the files that they name as `data:` URLs, in which form tasks are stored.

        Raises what `behind` does.
        """
        filled = await self.behind(owner, inputs, limit, hold)
        return [await self._in_json(owner, each) if each.flags & Flags.PARTS else each for each in filled]

    async def _in_json(self, owner: str, given: PredictInput) -> PredictInput:
        body = await self._checks.files_in_json(owner, given.body, args_alone=False)
        return given._replace(body=body, flags=given.flags & ~Flags.PARTS)

    async def _find(self, owner: str, inputs: Sequence[PredictInput]) -> dict[str, FileRecord]:
        named = [place for each in inputs for place in each.files]
        if len(named) > MAX_IDS:
            raise Unprocessable(f"{len(named)} ids of files are given, at most {MAX_IDS} are allowed")
        ids = {file_id for _, file_id in named}
        records = await self._store.read(lambda conn: file_store.get_many(conn, ids, owner), owner)
        found = {record.id: record for record in records}
        for path, file_id in named:
            if file_id not in found:
                raise _unknown(path, file_id)
        return found

    async def _filled(self, given: PredictInput, found: dict[str, FileRecord]) -> PredictInput:
        document, parts, body = bytes(given.body), [], bytearray()
        if given.flags & Flags.PARTS:
            whole = memoryview(given.body)
            document = bytes(document_behind(whole))
            parts = parse_json(document)["parts"]
            body += whole[: len(whole) - len(with_parts(b"", document))]
        for path, file_id in given.files:
            record, start = found[file_id], len(body)
            try:
                async for piece in self._artifacts.stream(record.key):
                    body += piece
            except NotFound:
                raise _unknown(path, file_id) from None
            file = File(b"", name=record.filename)
            parts.append([path, start, len(body), file.media_type, file.name])
        # The last one counts of a key that stands twice.
        text = b'%b, "parts": %b}' % (document.rstrip()[:-1], json.dumps(parts).encode())
        return given._replace(body=with_parts(body, text), flags=given.flags | Flags.PARTS, files=())


def _unknown(path: list[Any], file_id: str) -> Unprocessable:
    text = f"no file of yours has the id {file_id!r}: upload it with POST {routes.FILES}"
    error = {"loc": ["body", "args", *path], "msg": text, "type": "file_not_found"}
    return Unprocessable(f"{'.'.join(map(str, path))}: {text}", code="file_not_found", errors=[error])
