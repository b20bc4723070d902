"""An engine that answers as no engine should, as `fault` or `prompt` of a request say: `bad_engine.py`, on $PORT."""

import contextlib
import json
import os
import socket
import threading

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = EVENTS + b"transfer-encoding: chunked\r\n\r\n"
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWERS = {
    "garbage": b"\x00\x01\x02 this is not HTTP\r\n\r\n",
    "nothing": b"",
    "half head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "long head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    "two lengths": JSON + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "long length": JSON + b"content-length: 100\r\n\r\n{}",
    "no number": JSON + b"content-length: two\r\n\r\n{}",
    "not a chunk": CHUNKED + b"zz\r\n\r\n",
    "long chunk": CHUNKED + b"1\r\n" + PIECE,
    "gzip": EVENTS + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",
    "closed early": EVENTS + b"content-length: 10000\r\n\r\n" + PIECE,
    "not JSON": CHUNKED + chunk(b"data: {\n\ndata: [DONE]\n\n") + b"0\r\n\r\n",
    "no object": CHUNKED + chunk(b"data: 1\n\ndata: [DONE]\n\n") + b"0\r\n\r\n",
    "not text": CHUNKED + chunk(b"data: \xff\xfe\n\n") + b"0\r\n\r\n",
}


def serve(connection):
    with connection, connection.makefile("rb") as file:
        while first := file.readline():
            size = 0
            while line := file.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    size = int(line[15:])
            if first.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                continue
            asked = json.loads(file.read(size))
            fault = asked.get("fault") or asked["prompt"]
            if fault == "no end of a line":
                connection.sendall(CHUNKED + chunk(PIECE))
                while True:
                    connection.sendall(chunk(b"x" * 1_000_000))
            if fault == "said":
                text = json.dumps({"text": json.dumps(asked)}).encode()
                connection.sendall(JSON + b"content-length: %d\r\n\r\n%b" % (len(text), text))
                continue
            connection.sendall(ANSWERS[fault])
            return


def answer(connection):
    with contextlib.suppress(OSError):
        serve(connection)


with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as listener:
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
