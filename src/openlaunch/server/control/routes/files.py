"""Uploaded files (`/v1/files`): bytes under a name, for those who made them."""

import codecs
from collections.abc import AsyncIterator
from functools import partial

from fastapi import Request, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from openlaunch.errors import APIError, BadRequest, PayloadTooLarge, Unprocessable
from openlaunch.server import clock
from openlaunch.server.access.uploads import Counted
from openlaunch.server.control.answers import listed, shown, with_text
from openlaunch.server.control.routes.artifacts import bounded
from openlaunch.server.control.routes.context import Context, User
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
    UploadFileResponse,
)
from openlaunch.wire.ids import object_id

MAX_FILENAME = 255
PIECE = 1 << 20
TEXT_PIECE = 64 * 1024
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_SCHEMA = {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _SCHEMA}}}}


def router(context: Context) -> ControlRouter:
    """Upload, list, get, read and delete files."""
    api = ControlRouter(prefix=routes.FILES, tags=["files"])

    @api.post("", openapi_extra=_FORM)
    async def upload_file(request: Request, user: User) -> UploadFileResponse:
        """Store the form's `file`."""
        return UploadFileResponse(id=await _store(context, request, user.owner))

    @api.get("", response_model=ListFilesResponse)
    async def list_files(user: User) -> Response:
        """List the caller's files, newest first."""
        found = await context.store.read(lambda conn: file_store.list_by_owner(conn, user.owner), user.owner)
        return listed("files", found, partial(shown, FileResponse))

    @api.get("/{file_id}")
    async def get_file(file_id: str, user: User) -> FileResponse:
        """Get one file's name and size."""
        return shown(FileResponse, await _find(context, file_id, user.owner))

    @api.get("/{file_id}/content", response_model=FileContentResponse)
    async def get_file_content(file_id: str, user: User) -> Response:
        """Get a file's text."""
        record = await _find(context, file_id, user.owner)
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
        return DeleteFileResponse(deleted=deleted)

    return api


async def _store(context: Context, request: Request, owner: str) -> str:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("the body is not multipart/form-data with a field 'file'")
    body = bounded(request.stream(), context.settings.max_bundle_bytes)
    try:
        form = await MultiPartParser(request.headers, body, max_files=1, max_fields=10).parse()
    except (MultiPartException, KeyError) as error:
        raise BadRequest(f"the form can't be read: {error}") from None
    async with context.uploads.upload(owner) as counted:
        try:
            record = await _put(context, form.get("file"), owner, counted)
        finally:
            await form.close()
        try:
            await context.store.write(lambda conn: file_store.insert(conn, record), owner)
        except APIError as error:
            if error.code != OUTCOME_UNKNOWN:
                await context.artifacts.delete(record.key)
            raise
    return record.id


async def _put(context: Context, upload: UploadFile | str | None, owner: str, counted: Counted) -> FileRecord:
    if not isinstance(upload, UploadFile):
        raise Unprocessable(
            "the form has no file in its field 'file'",
            errors=[{"loc": ["body", "file"], "msg": "Field required", "type": "missing"}],
        )
    file_id = object_id("file")
    key = f"files/{file_id}"
    size = await context.artifacts.put(key, counted(_pieces(upload)))
    return FileRecord(file_id, owner, (upload.filename or "file")[-MAX_FILENAME:], size, key, clock.now())


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
