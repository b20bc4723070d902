"""Streams at once against one URL: `stream_client.py STREAMS SECONDS`, URL, headers and body in the environment.

Prints one line of JSON: chunks (events with data) a second, and milliseconds to a stream's first chunk.
Runs in the reference's environment, which has uvloop and httptools.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from urllib.parse import urlsplit

import httptools
import uvloop

WARM_SECONDS = 0.5


class Stream(asyncio.Protocol):
    """One connection, on which streams follow each other."""

    def __init__(self, request):
        self.request = request

    def connection_made(self, transport):
        self.transport = transport

    def begin(self):
        self.parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        self.chunks = 0
        self.first = None
        self.began = time.perf_counter()
        self.transport.write(self.request)
        return self.done

    def on_body(self, body):
        if self.first is None:
            self.first = time.perf_counter() - self.began
        self.chunks += body.count(b"data: ")

    def on_message_complete(self):
        self.stays = self.parser.should_keep_alive()  # later it would be asked of no message
        if self.parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"status {self.parser.get_status_code()}"))
        else:
            self.done.set_result(None)

    def data_received(self, data):
        self.parser.feed_data(data)

    def connection_lost(self, exc):
        if not self.done.done():
            self.done.set_exception(ConnectionError("the connection was closed"))


async def follow(url, request, until, seen):
    loop = asyncio.get_running_loop()
    stream = None
    while time.perf_counter() < until:
        if stream is None or stream.transport.is_closing():
            _, stream = await loop.create_connection(lambda: Stream(request), url.hostname, url.port)
        await stream.begin()
        seen.append((stream.chunks, stream.first))
        if not stream.stays:
            stream.transport.close()


async def main():
    streams, seconds = int(sys.argv[1]), float(sys.argv[2])
    url = urlsplit(os.environ["BENCH_URL"])
    body = os.environ["BENCH_BODY"].encode()
    lines = [
        f"POST {url.path}{'?' + url.query if url.query else ''} HTTP/1.1",
        f"Host: {url.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *os.environ["BENCH_HEADERS"].splitlines(),
    ]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    seen, total = [], 0
    for length in (WARM_SECONDS, seconds):
        seen.clear()
        began = time.perf_counter()
        await asyncio.gather(*(follow(url, request, began + length, seen) for _ in range(streams)))
        took = time.perf_counter() - began
        total += sum(count for count, _ in seen)
    firsts = sorted(first * 1000 for _, first in seen)
    chunks = [count for count, _ in seen]
    print(
        json.dumps(
            {
                "rate": sum(chunks) / took,
                "total": total,
                "first_p50": statistics.median(firsts),
                "first_p99": firsts[int(len(firsts) * 0.99)],
                "chunks": [min(chunks), max(chunks)],
            }
        )
    )


uvloop.run(main())
