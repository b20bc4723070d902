"""Uploaded files (`/v1/files`): bytes under a name, for those who made them.

The routes are Launch's and OpenAI's at once: each answers with what both clients read.
"""

import codecs
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from sqlalchemy import Connection
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from openlaunch.errors import APIError, BadRequest, NotFound, PayloadTooLarge, Unprocessable
from openlaunch.server import clock
from openlaunch.server.access.uploads import Counted
from openlaunch.server.control.answers import InPages, InPieces, listed, shown, with_text
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.artifacts import FILE, bounded
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import found
from openlaunch.store import files as file_store
from openlaunch.store.base import OUTCOME_UNKNOWN
from openlaunch.store.records import FileRecord
from openlaunch.wire import routes
from openlaunch.wire.files import (
    DeleteFileResponse,
    FileContentResponse,
    FileResponse,
    ListFilesResponse,
)
from openlaunch.wire.ids import object_id

MAX_FILENAME = 255
MAX_PURPOSE = 64
BINARY = ("application/octet-stream", "application/binary")
Limit = Annotated[int | None, Query(ge=1, le=10_000)]
PIECE = 1 << 20
TEXT_PIECE = 64 * 1024
READ_AT_ONCE = 500
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_FIELDS = {"file": _FILE, "purpose": {"type": "string"}}
_SCHEMA = {"type": "object", "properties": _FIELDS, "required": ["file"]}
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}}


def router(context: Context) -> ControlRouter:
    """Upload, list, get, read and delete files."""
    api = ControlRouter(prefix=routes.FILES, tags=["files"])

    @api.post("", openapi_extra=_FORM)
    async def upload_file(request: Request, user: User) -> FileResponse:
        """Store the form's `file`; `purpose` is what it is for, such as batch."""
        return _shown(await _store(context, request, user.owner))

    @api.get("", response_model=ListFilesResponse)
    async def list_files(
        user: User,
        purpose: str | None = None,
        after: str | None = None,
        limit: Limit = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        """List the caller's files, of a purpose or all, newest first unless `order` is asc.

        `after` is the last one of the page before.
        """
        owner, most = user.owner, None if limit is None else limit + 1
        ids = await _ids(context, owner, after, purpose=purpose, limit=most, newest_first=order == "desc")
        files = InPages(
            context.store,
            ids[:limit],
            lambda conn, ids: file_store.get_many(conn, ids, owner),
            owner,
            READ_AT_ONCE,
        )
        has_more = limit is not None and len(ids) > limit
        return listed(("files", "data"), files, _shown, object="list", has_more=has_more)

    @api.get("/{file_id}")
    async def get_file(file_id: str, user: User) -> FileResponse:
        """Get one file's name and size."""
        return _shown(await _find(context, file_id, user.owner))

    @api.get(
        "/{file_id}/content",
        response_model=FileContentResponse,
        responses={200: {"content": {binary: {} for binary in BINARY}}},
    )
    async def get_file_content(file_id: str, request: Request, user: User) -> Response:
        """Get a file's text; of a file with a purpose, or where Accept is application/binary, its bytes."""
        record = await _find(context, file_id, user.owner)
        accepted = request.headers.get("accept", "")
        if record.purpose is not None or any(binary in accepted for binary in BINARY):
            pieces = context.artifacts.stream(record.key, TEXT_PIECE)
            headers = {"content-length": str(record.size), **FILE}
            return InPieces(pieces, media_type=BINARY[0], headers=headers)
        if record.size > context.settings.max_body_bytes:
            raise PayloadTooLarge(
                f"the file has {record.size} bytes, {context.settings.max_body_bytes} can be read at once"
            )
        try:
            async for _ in _text(context, record.key):  # once before: what is answered can't be taken back
                pass
        except UnicodeDecodeError as error:
            raise Unprocessable(f"the file {record.filename!r} is not UTF-8 text: {error}") from None
        return with_text(_text(context, record.key), id=record.id)

    @api.delete("/{file_id}")
    async def delete_file(file_id: str, user: User) -> DeleteFileResponse:
        """Delete a file and its bytes."""
        record = await _find(context, file_id, user.owner)
        deleted = await context.store.write(
            lambda conn: file_store.delete(conn, file_id, user.owner), user.owner
        )
        await context.artifacts.delete(record.key)
        return DeleteFileResponse(id=file_id, deleted=deleted)

    return api


def _shown(file: FileRecord) -> FileResponse:
    return shown(FileResponse, file, bytes=file.size, created_at=int(file.created_at))


async def _store(context: Context, request: Request, owner: str) -> FileRecord:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("the body is not multipart/form-data with a field 'file'")
    body = bounded(request.stream(), context.settings.max_bundle_bytes)
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError) as error:
        raise BadRequest(f"the form can't be read: {error}") from None
    if any(name.startswith("expires_after") for name in form):
        raise _misfit("expires_after", "files are kept until they are deleted: leave it out")
    async with context.uploads.upload(owner) as counted:
        try:
            record = await _put(context, form.get("file"), _purpose(form.get("purpose")), owner, counted)
        finally:
            await form.close()
        try:
            await context.store.write(lambda conn: file_store.insert(conn, record), owner)
        except APIError as error:
            if error.code != OUTCOME_UNKNOWN:
                await context.artifacts.delete(record.key)
            raise
    return record


async def _ids(context: Context, owner: str, after: str | None, **wanted: Any) -> list[str]:
    """Return the ids of the owner's files that are wanted, behind `after` where it is given."""

    def read(conn: Connection) -> list[str]:
        if after is not None and not file_store.get_many(conn, [after], owner):
            raise NotFound(f"after: no file has the id {after!r}", code="file_not_found")
        return file_store.ids_of_owner(conn, owner, after=after, **wanted)

    return await context.store.read(read, owner)


def _misfit(field: str, text: str) -> Unprocessable:
    errors = [{"loc": ["body", field], "msg": text, "type": "value_error"}]
    return Unprocessable(f"{field}: {text}", errors=errors)


def _purpose(given: UploadFile | str | None) -> str | None:
    if given is None or (isinstance(given, str) and 0 < len(given) <= MAX_PURPOSE):
        return given
    raise BadRequest(f"purpose is not text of up to {MAX_PURPOSE} characters")


async def _put(
    context: Context, upload: UploadFile | str | None, purpose: str | None, owner: str, counted: Counted
) -> FileRecord:
    if not isinstance(upload, UploadFile):
        raise _misfit("file", "it is missing: the form has no file in it")
    file_id = object_id("file")
    key = f"files/{file_id}"
    size = await context.artifacts.put(key, counted(_pieces(upload)))
    name = (upload.filename or "file")[-MAX_FILENAME:]
    return FileRecord(file_id, owner, name, size, key, clock.now(), purpose)


async def _pieces(upload: UploadFile) -> AsyncIterator[bytes]:
    while piece := await upload.read(PIECE):
        yield piece


async def _text(context: Context, key: str) -> AsyncIterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    async for piece in context.artifacts.stream(key, TEXT_PIECE):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


async def _find(context: Context, file_id: str, owner: str) -> FileRecord:
    record = await context.store.read(lambda conn: file_store.get(conn, file_id, owner), owner)
    return found(record, f"no file has the id {file_id!r}", "file_not_found")
