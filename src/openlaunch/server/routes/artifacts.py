"""Bytes behind signed URLs: uploads of bundles, and pickled results."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from openlaunch.artifacts.locations import BUCKET
from openlaunch.errors import PayloadTooLarge
from openlaunch.server.results import base_url
from openlaunch.server.routes.context import Context, User
from openlaunch.wire import routes
from openlaunch.wire.bundles import UploadResponse


def router(context: Context) -> APIRouter:
    """The upload route, and the signed URLs that this server hands out itself."""
    api = APIRouter(tags=["artifacts"])

    @api.post(routes.BUNDLE_UPLOAD)
    async def bundle_upload(request: Request, user: User) -> UploadResponse:
        """Say where a bundle's bytes are to be PUT, and how to name them afterwards."""
        key = f"bundles/{user.owner.encode().hex()}/{secrets.token_hex(16)}"
        url = context.urls.make(base_url(request.scope), "PUT", key)
        return UploadResponse(signedUrl=url, bucket=BUCKET, key=key)

    @api.put(routes.ARTIFACTS + "/{key:path}", status_code=200)
    async def put_artifact(key: str, request: Request, expires: str, signature: str) -> Response:
        """Store the body under the key that the URL was signed for."""
        context.signer.verify("PUT", key, expires, signature, time.time())
        await context.artifacts.put(key, bounded(request.stream(), context.settings.max_bundle_bytes))
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


async def bounded(pieces: AsyncIterator[bytes], limit: int) -> AsyncGenerator[bytes]:
    """The pieces, as long as they are not over the limit together; then PayloadTooLarge is raised."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise PayloadTooLarge(f"the upload has over {limit} bytes, which is the limit")
        yield piece
