"""Bytes behind signed URLs, the server's or a bucket's: uploads of bundles and batch jobs' inputs, and results."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import Request, Response

from openlaunch.artifacts.locations import (
    BUCKET,
    BUNDLES_FOLDER,
    INPUTS_FOLDER,
    key_of,
    upload_folder,
    uploader_of,
)
from openlaunch.errors import NotFound, PayloadTooLarge, Unprocessable
from openlaunch.server.accept import ANYTHING
from openlaunch.server.control.answers import InPieces
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.bundles import UploadResponse

MAX_PUT_BYTES = 5 * 1000**3
"""The most that buckets take in one request; the server sends larger uploads on in parts."""
_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {ANYTHING: {}}}}
FILE = {"Content-Disposition": "attachment"}
"""Headers of bytes that users uploaded or models made: a browser saves them, and shows none."""
_NAMES_BUCKET = {routes.BUCKET_HEADER: "true", "Cache-Control": "no-store"}


def router(context: Context) -> ControlRouter:
    """Serve the upload routes, and the signed URLs that this server hands out itself."""
    api = ControlRouter(tags=["artifacts"])

    @api.post(routes.BUNDLE_UPLOAD)
    async def bundle_upload(
        request: Request, response: Response, user: User, size: int = 0
    ) -> UploadResponse:
        """Return where to PUT a bundle's bytes, and the location that names them afterwards.

        Name the `size` of a large one: where it goes depends on it.
        """
        return await _upload(context, request, response, user.owner, BUNDLES_FOLDER, size)

    @api.post(routes.BATCH_UPLOAD)
    async def batch_task_input_upload(
        request: Request, response: Response, user: User, size: int = 0
    ) -> UploadResponse:
        """Return where to PUT the inputs of a batch job, and the location that names them afterwards.

        Name the `size` of a large one: where it goes depends on it.
        """
        return await _upload(context, request, response, user.owner, INPUTS_FOLDER, size)

    @api.put(routes.ARTIFACTS + "/{key:path}", status_code=200, responses=_BYTES)
    async def put_artifact(key: str, request: Request, expires: str, signature: str) -> Response:
        """Store the body under the key that the URL was signed for."""
        context.signer.verify("PUT", key, expires, signature, time.time())
        announced = int(request.headers.get("content-length", 0))
        pieces = bounded(request.stream(), context.settings.max_bundle_bytes)
        async with context.uploads.upload(uploader_of(key) or "", announced) as counted:
            await context.artifacts.put(key, counted(pieces))
        return Response()

    @api.get(routes.ARTIFACTS + "/{key:path}", response_model=None, responses=_BYTES)
    async def get_artifact(key: str, expires: str, signature: str) -> Response:
        """Send the bytes under the key that the URL was signed for, or lead to the bucket that has them."""
        now = time.time()
        context.signer.verify("GET", key, expires, signature, now)
        size = await context.artifacts.size(key)
        if url := await context.artifacts.signed_url("GET", key, max(1.0, int(expires) - now)):
            return Response(status_code=307, headers={"Location": url, **_NAMES_BUCKET})
        return InPieces(
            context.artifacts.stream(key),
            media_type="application/octet-stream",
            headers={"Content-Length": str(size), **FILE},
        )

    return api


async def _upload(
    context: Context, request: Request, response: Response, owner: str, kind: str, size: int
) -> UploadResponse:
    key = upload_folder(kind, owner) + secrets.token_hex(16)
    url = None
    if size <= MAX_PUT_BYTES and context.uploads.is_unlimited(owner):
        url = await context.artifacts.signed_url("PUT", key, context.settings.url_lifetime_seconds)
    if url is None:
        url = context.urls.make(context.urls.base_url(request.scope), "PUT", key)
    else:
        response.headers.update(_NAMES_BUCKET)
    return UploadResponse(signedUrl=url, bucket=BUCKET, key=key)


async def check_uploaded(context: Context, kind: str, location: str, owner: str) -> str:
    """Return the key of bytes of this kind.

    Raises:
        Unprocessable: this owner has not uploaded them.
        PayloadTooLarge: they are over the limit, which a bucket does not know; they are deleted.
    """
    key = key_of(location)
    try:
        if not key.startswith(upload_folder(kind, owner)):
            raise NotFound("not this owner's")
        size = await context.artifacts.size(key)
    except NotFound:
        raise Unprocessable(
            f"nothing was uploaded to {location!r}: PUT the bytes to the URL of the upload route first",
            code="not_uploaded",
        ) from None
    if size > (limit := context.settings.max_bundle_bytes):
        await context.artifacts.delete(key)
        raise PayloadTooLarge(f"the upload has {size} bytes, and the limit is {limit}: it is deleted")
    return key


async def bounded(pieces: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
    """Yield the pieces; raise PayloadTooLarge once they are over the limit together."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"the upload has over {limit} bytes, which is the limit")
        yield piece
