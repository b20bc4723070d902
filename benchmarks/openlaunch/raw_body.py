"""An app that reads a body and answers with its length: what `bodies.py` measures a server beside."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    pieces = []
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    size = len(b"".join(pieces))
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    )
    await send({"type": "http.response.body", "body": str(size).encode()})
