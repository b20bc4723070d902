"""An HTTP application that is made while others are served already."""

import asyncio
from collections.abc import Callable

from openlaunch.server.asgi import App, Receive, Scope, Send


class LazyApp:
    """What `make` gives, made in a thread; requests that come before it is there wait for it."""

    def __init__(self, make: Callable[[], App]) -> None:
        self.made = asyncio.ensure_future(asyncio.to_thread(make))
        """The application, or why it could not be made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.made.result() if self.made.done() else await asyncio.shield(self.made)
        await app(scope, receive, send)
