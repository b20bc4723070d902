"""The reference of the real model: a bare ASGI app that calls it in its own process, one image at a time."""

import digits
import msgspec

JSON = [(b"content-type", b"application/json")]


class Args(msgspec.Struct):
    image: list[float]


class Request(msgspec.Struct):
    args: Args


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode
model = digits.load()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message.get("more_body", False)
    answer = encode({"result": digits.classify(model, [decode(body).args.image])[0]})
    headers = [*JSON, (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
