"""The reference: a bare ASGI app that parses the JSON and answers in its own process."""

import msgspec

JSON = [(b"content-type", b"application/json")]
CHUNKS = [b'data: {"i": %d}\n\n' % i for i in range(100)]


class Args(msgspec.Struct):
    x: int
    y: str


class Request(msgspec.Struct):
    args: Args


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message.get("more_body", False)
    if scope["path"] == "/stream":
        await stream(send)
        return
    args = decode(body).args
    answer = encode({"result": args.x * 2 + len(args.y)})
    headers = [*JSON, (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def stream(send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in CHUNKS:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
