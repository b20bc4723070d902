"""In front of the control plane's routes: the audit log has each change before it is answered.

And a browser runs nothing of an answer, unless the answer has a policy of its own.
"""

from openlaunch.server.access.audit import AuditLog
from openlaunch.server.asgi import HARMLESS, App, Message, Receive, Scope, Send
from openlaunch.server.control.routing import DOCUMENT

_READS = ("GET", "OPTIONS")
_HARMLESS = [(name.encode(), value.encode()) for name, value in HARMLESS.items()]


class Guard:
    """Lets requests through to `rest`, and records those that change something."""

    def __init__(self, audit: AuditLog, rest: App) -> None:
        self._audit = audit
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":  # the server leaves out the body of the answer
            scope = {**scope, "method": "GET"}
        reads = scope["method"] in _READS
        send = _harmless(send)
        await self._rest(scope, receive, send if reads else self._recorded(scope, send))

    def _recorded(self, scope: Scope, send: Send) -> Send:
        """Send an answer once the audit log has the change."""
        start: Message | None = None

        async def send_later(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                answer = message.get("body", b"")
                await self._audit.record_request(scope, scope.get(DOCUMENT), start["status"], answer)
                held, start = start, None
                await send(held)
            await send(message)

        return send_later


def _harmless(send: Send) -> Send:
    """Send an answer with `HARMLESS` headers, where it has none of these names."""

    async def send_harmless(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            names = {name for name, _ in headers}
            headers += (header for header in _HARMLESS if header[0] not in names)
            message = {**message, "headers": headers}
        await send(message)

    return send_harmless
