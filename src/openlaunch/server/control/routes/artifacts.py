"""Bytes behind signed URLs: uploads of bundles and of batch jobs' inputs, and results."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from openlaunch.artifacts.locations import (
    BUCKET,
    BUNDLES_FOLDER,
    INPUTS_FOLDER,
    key_of,
    upload_folder,
    uploader_of,
)
from openlaunch.errors import NotFound, PayloadTooLarge, Unprocessable
from openlaunch.server.control.routes.context import Context, User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.bundles import UploadResponse


def router(context: Context) -> ControlRouter:
    """Serve the upload routes, and the signed URLs that this server hands out itself."""
    api = ControlRouter(tags=["artifacts"])

    @api.post(routes.BUNDLE_UPLOAD)
    async def bundle_upload(request: Request, user: User) -> UploadResponse:
        """Return where to PUT a bundle's bytes, and the location that names them afterwards."""
        return _upload(context, request, upload_folder(BUNDLES_FOLDER, user.owner))

    @api.post(routes.BATCH_UPLOAD)
    async def batch_task_input_upload(request: Request, user: User) -> UploadResponse:
        """Return where to PUT the inputs of a batch job, and the location that names them afterwards."""
        return _upload(context, request, upload_folder(INPUTS_FOLDER, user.owner))

    @api.put(routes.ARTIFACTS + "/{key:path}", status_code=200)
    async def put_artifact(key: str, request: Request, expires: str, signature: str) -> Response:
        """Store the body under the key that the URL was signed for."""
        context.signer.verify("PUT", key, expires, signature, time.time())
        announced = int(request.headers.get("content-length", 0))
        pieces = bounded(request.stream(), context.settings.max_bundle_bytes)
        async with context.uploads.upload(uploader_of(key) or "", announced) as counted:
            await context.artifacts.put(key, counted(pieces))
        return Response()

    @api.get(routes.ARTIFACTS + "/{key:path}")
    async def get_artifact(key: str, expires: str, signature: str) -> StreamingResponse:
        """Send the bytes under the key that the URL was signed for."""
        context.signer.verify("GET", key, expires, signature, time.time())
        size = await context.artifacts.size(key)
        return StreamingResponse(
            context.artifacts.stream(key),
            media_type="application/octet-stream",
            headers={"Content-Length": str(size)},
        )

    return api


def _upload(context: Context, request: Request, folder: str) -> UploadResponse:
    key = folder + secrets.token_hex(16)
    url = context.urls.make(context.urls.base_url(request.scope), "PUT", key)
    return UploadResponse(signedUrl=url, bucket=BUCKET, key=key)


async def check_uploaded(context: Context, kind: str, location: str, owner: str) -> str:
    """Return the key of bytes of this kind; raise Unprocessable where this owner has not uploaded them."""
    key = key_of(location)
    try:
        if not key.startswith(upload_folder(kind, owner)):
            raise NotFound("not this owner's")
        await context.artifacts.size(key)
    except NotFound:
        raise Unprocessable(
            f"nothing was uploaded to {location!r}: PUT the bytes to the URL of the upload route first",
            code="not_uploaded",
        ) from None
    return key


async def bounded(pieces: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
    """Yield the pieces; raise PayloadTooLarge once they are over the limit together."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"the upload has over {limit} bytes, which is the limit")
        yield piece
