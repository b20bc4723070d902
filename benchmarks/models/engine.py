"""An engine that speaks OpenAI, without a model: the first token comes at once, then one to every stream each step.

A request says by `seed` how many milliseconds a step takes. It listens on $PORT. It has one route: vllm-router asks
for others, too, and reads whatever they answer before it goes on.
"""

import asyncio
import json
import os

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ABOUT = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
TICK = 0.001
STREAMS = {}
"""How many tokens each connection has still to get, and how many ticks a step of it has."""


def event(data):
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


def document(**more):
    return json.dumps({**ABOUT, **more}).encode()


CHOICE = {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
TOKEN = event(document(choices=[CHOICE]))
END = event(document(choices=[], usage=USAGE)) + event(b"[DONE]") + b"0\r\n\r\n"


class Engine(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = b""
        self.is_full = False

    def connection_lost(self, error):
        STREAMS.pop(self, None)

    def pause_writing(self):
        self.is_full = True

    def resume_writing(self):
        self.is_full = False

    def data_received(self, data):
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        sizes = [
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        if found and len(body) >= sum(sizes):
            self.received = b""
            if not head.startswith((b"GET ", b"POST /v1/chat/completions ")):
                self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            elif sizes and sum(sizes):
                asked = json.loads(body)
                STREAMS[self] = [asked["max_tokens"] - 1, asked["seed"]]
                self.transport.write(HEAD + TOKEN)
            else:
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def main():
    loop = asyncio.get_running_loop()
    await loop.create_server(Engine, "127.0.0.1", int(os.environ["PORT"]))
    tick, at = 0, loop.time()
    while True:
        tick += 1
        for engine, stream in list(STREAMS.items()):
            if tick % stream[1] or engine.is_full:
                continue
            if stream[0]:
                stream[0] -= 1
                engine.transport.write(TOKEN)
            else:
                del STREAMS[engine]
                engine.transport.write(END)
        at = max(at + TICK, loop.time())
        await asyncio.sleep(at - loop.time())


uvloop.run(main())
