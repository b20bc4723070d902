"""An HTTP application that is made while others are served already."""

import asyncio
from collections.abc import Callable, Mapping

from openlaunch.server.asgi import App, Receive, Scope, Send


class LazyApp:
    """What `make` gives, made in a thread; requests that come before it is there wait for it.

    `early` has the JSON answers to GET by path that do not wait.
    """

    def __init__(self, make: Callable[[], App], early: Mapping[str, bytes] | None = None) -> None:
        self._early = early or {}
        self.made = asyncio.ensure_future(asyncio.to_thread(make))
        """The application, or why it could not be made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.made.done() and scope["path"] in self._early and scope["method"] == "GET":
            await _answer(send, self._early[scope["path"]])
            return
        app = self.made.result() if self.made.done() else await asyncio.shield(self.made)
        await app(scope, receive, send)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
