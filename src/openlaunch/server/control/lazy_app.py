"""An HTTP application that is made while others are served already."""

import asyncio
import gc
import sys
from collections.abc import Callable, Mapping

from openlaunch.server.asgi import App, Receive, Scope, Send

SWITCH_SECONDS = 0.0005
"""How long the thread that makes it keeps Python's lock from the event loop's, a tenth of what is usual."""


class LazyApp:
    """What `make` gives, made in a thread; requests that come before it is there wait for it.

    `early` has the JSON answers to GET by path that do not wait.
    """

    def __init__(self, make: Callable[[], App], early: Mapping[str, bytes] | None = None) -> None:
        self._early = early or {}
        self.made = asyncio.ensure_future(asyncio.to_thread(_made, make))
        """The application, or why it could not be made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.made.done() and scope["path"] in self._early and scope["method"] == "GET":
            await _answer(send, self._early[scope["path"]])
            return
        app = self.made.result() if self.made.done() else await asyncio.shield(self.made)
        await app(scope, receive, send)


def _made(make: Callable[[], App]) -> App:
    """Make it in a thread, so that it holds up as little as may be what is served meanwhile.

    Collections, which stop every request, look neither at what comes now nor, from then on, at what there is.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()
    try:
        return make()
    finally:
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(before)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
