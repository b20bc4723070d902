"""An engine that speaks OpenAI, without a model: each step sends a token to every stream, as real ones do.

A request says by `fault` how it is to go wrong, and by `width` how many tokens a piece has. $STEP_MS is
the time between tokens, $FIRST_MS the time before the first, $ANSWER_MS how long a whole answer takes, $PORT
where it listens.
"""

import asyncio
import json
import os
import sys
import time

STEP = float(os.environ.get("STEP_MS", "2")) / 1000
ANSWER = float(os.environ.get("ANSWER_MS", "0")) / 1000
FIRST = float(os.environ.get("FIRST_MS", "0")) / 1000
NAME = sys.argv[1] if len(sys.argv) > 1 else "mock"
EVENTS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
STREAMS = {}
"""What each connection with a stream was asked for, and how many tokens it has sent; None where it hangs."""

ASLEEP = False
"""Whether it is asleep, as vLLM may be: it has no weights on its GPU then."""

CONNECTIONS = set()
LISTENER = []

SEEN = {"left": 0, "connections": 0, "requests": 0}
USAGE = {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document):
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def piece(given, text, finish=None):
    document = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": given["model"]}
    choice = {"index": 0, "delta": {"content": text}, "text": text, "finish_reason": finish, "logprobs": None}
    return event({**document, "choices": [choice]})


def usage(tokens):
    return {**USAGE, "completion_tokens": tokens, "total_tokens": 10 + tokens}


def named_event(kind, **document):
    return f"event: {kind}\n".encode() + event({"type": kind, **document})


def response(given, tokens):
    part = {"type": "output_text", "text": " token" * tokens, "annotations": []}
    output = {"id": "m-1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 10, "output_tokens": tokens, "total_tokens": 10 + tokens}
    made = {"id": "r-1", "object": "response", "created_at": 1, "status": "completed", "output": [output]}
    return {**made, "model": given["model"], "usage": usage, "parallel_tool_calls": False, "tools": []}


PLACE = {"item_id": "m-1", "output_index": 0, "content_index": 0}
ITEM = {"id": "m-1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": []}


def starts(path, given):
    """How a stream begins whose events have names."""
    if path == "/v1/messages":
        return [named_event("message_start", message={"usage": {"input_tokens": 10, "output_tokens": 1}})]
    if path != "/v1/responses":
        return []
    made = {**response(given, 0), "status": "in_progress", "output": [], "usage": None}
    return [
        named_event("response.created", response=made, sequence_number=0),
        named_event("response.output_item.added", item=ITEM, output_index=0, sequence_number=1),
        named_event("response.content_part.added", part=PART, **PLACE, sequence_number=2),
    ]


NAMED = ("/v1/responses", "/v1/messages")
SPEECH = "/v1/audio/speech"
SOUND = b'\0ID3\n\n"total_tokens": 1'

FORMS = ("/v1/audio/transcriptions",)


def named(path, text):
    if path == "/v1/messages":
        return named_event("content_block_delta", delta={"type": "text_delta", "text": text})
    return named_event("response.output_text.delta", delta=text, **PLACE, logprobs=[], sequence_number=3)


def ends(path, given, tokens):
    if path == "/v1/messages":
        return named_event("message_delta", usage={"output_tokens": tokens}) + named_event("message_stop")
    return named_event("response.completed", response=response(given, tokens), sequence_number=4)


def form(body):
    parts = body.split(body.partition(b"\r\n")[0])[1:-1]
    found = [part.strip(b"\r\n").partition(b"\r\n\r\n") for part in parts]
    return {head.split(b'name="')[1].split(b'"')[0].decode(): value.decode() for head, _, value in found}


class Engine(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.buffer = b""
        CONNECTIONS.add(transport)
        SEEN["connections"] += 1

    def connection_lost(self, error):
        if self in STREAMS:
            SEEN["left"] += 1
            SEEN["left_at"] = time.time()
        STREAMS.pop(self, None)
        CONNECTIONS.discard(self.transport)

    def data_received(self, data):
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            size = sum(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            if not found or len(rest) < size:
                return
            self.buffer = rest[size:]
            path = lines[0].split()[1].decode()
            self.answer(path, form(rest[:size]) if path in FORMS else json.loads(rest[:size] or b"{}"))

    def answer(self, path, given):
        if path == "/health":
            return self.send(200, {})
        if path in ("/sleep?level=1", "/wake_up", "/is_sleeping"):
            return self.rest(path)
        if ASLEEP:
            return self.send(500, {"error": {"message": "the engine sleeps"}})
        SEEN["requests"] += 1
        fault = given.get("fault")
        if status := os.environ.get("STATUS"):
            return self.send(int(status), {"error": {"message": "overloaded", "code": "of_engine"}})
        if fault == "status":
            error = {
                "error": {"message": "no such thing", "type": "invalid", "param": None, "code": "of_engine"}
            }
            return self.send(given["status"], error, b"retry-after: 7\r\n" if given["status"] == 429 else b"")
        if fault == "hang":
            STREAMS[self] = None
            return None
        if path == SPEECH:
            STREAMS[self] = [given, 0, path]
            return self.transport.write(EVENTS.replace(b"text/event-stream", b"audio/mpeg"))
        if given.get("stream") and fault != "json":
            self.transport.write(EVENTS + b"".join(map(chunk, starts(path, given))))
            if FIRST:
                asyncio.get_running_loop().call_later(FIRST, STREAMS.__setitem__, self, [given, 0, path])
            else:
                STREAMS[self] = [given, 0, path]
            return None
        if ANSWER:
            return asyncio.get_running_loop().call_later(ANSWER, self.send, 200, self.whole(path, given))
        return self.send(200, self.whole(path, given))

    def rest(self, path):
        global ASLEEP
        if path == "/is_sleeping":
            return self.send(200, {"is_sleeping": ASLEEP})
        if fault := os.environ.get("REST_FAULT" if path != "/wake_up" else "WAKE_FAULT"):
            return self.send(int(fault), {"error": "no memory"})
        ASLEEP = path != "/wake_up"
        print("falls asleep" if ASLEEP else "wakes up", flush=True)
        return self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def whole(self, path, given):
        tokens = given.get("max_tokens") or 3
        said = given.get("says_usage", usage(tokens))
        document = {"id": "cmpl-1", "created": 1, "model": given["model"], "usage": said}
        if path in FORMS:
            return {"text": given["file"], "model": given["model"]}
        if path == "/v1/rerank":
            return {**document, "results": [{"index": 0, "relevance_score": 0.5}]}
        if path == "/v1/responses":
            return response(given, tokens)
        if path == "/v1/messages/count_tokens":
            return {"input_tokens": 10}
        if path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5] * given.get("dimensions", 4)}]
            return {**document, "object": "list", "data": data}
        text = " token" * tokens
        message = {"role": "assistant", "content": json.dumps(SEEN) if given.get("seen") else text}
        choice = {"index": 0, "message": message, "text": text, "finish_reason": "stop", "logprobs": None}
        return {**document, "object": "chat.completion", "choices": [choice]}

    def send(self, status, document, headers=b""):
        body = json.dumps(document).encode()
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, headers, len(body)) + body)

    def step(self):
        if (stream := STREAMS[self]) is None:
            return
        given, sent, path = stream
        if sent == 3 and (fault := given.get("fault")):
            self.go_wrong(fault, given)
            return
        if sent < (given.get("max_tokens") or 3):
            stream[1] += 1
            text = " token" * given.get("width", 1)
            made = named(path, text) if path in NAMED else piece(given, text)
            self.transport.write(chunk(SOUND if path == SPEECH else made))
            return
        del STREAMS[self]
        if path == SPEECH:
            self.transport.write(b"0\r\n\r\n")
            return
        if path in NAMED:
            self.transport.write(chunk(ends(path, given, sent)) + b"0\r\n\r\n")
            return
        last = piece(given, "", "stop")
        if (given.get("stream_options") or {}).get("include_usage"):
            last += event(
                {
                    "id": "cmpl-1",
                    "object": "chat.completion.chunk",
                    "choices": [],
                    "usage": given.get("says_usage", usage(sent)),
                }
            )
        self.transport.write(chunk(last) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def go_wrong(self, fault, given):
        if fault == "exit":
            print("the engine falls over", flush=True)
            os._exit(7)
        if fault == "deaf":  # as engines whose model has died, and which take their time to end
            LISTENER[0].close()
            for transport in CONNECTIONS:
                transport.abort()
            asyncio.get_running_loop().call_later(given["ends_after"], os._exit, 7)
            return
        STREAMS.pop(self)
        if fault == "inside":
            self.transport.write(chunk(piece(given, " token"))[:-20])
        elif fault == "half_event":
            self.transport.write(chunk(piece(given, " token")[:-20]) + b"0\r\n\r\n")
        elif fault == "not_done":
            self.transport.write(b"0\r\n\r\n")
        elif fault == "error":
            error = event({"error": {"message": "out of memory", "type": "server_error"}})
            self.transport.write(chunk(error) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.transport.close()


async def main():
    await asyncio.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
    if os.environ.get("FAIL"):
        print("the weights are not to be found", file=sys.stderr, flush=True)
        sys.exit(3)
    loop = asyncio.get_running_loop()
    LISTENER.append(await loop.create_server(Engine, "127.0.0.1", int(os.environ["PORT"])))
    at = loop.time()
    while True:
        for engine in list(STREAMS):
            engine.step()
        at = max(at + STEP, loop.time())
        await asyncio.sleep(at - loop.time())


asyncio.run(main())
