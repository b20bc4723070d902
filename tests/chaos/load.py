"""A client that sends as many requests a second as it is told to, whatever becomes of them: a process of its own.

`python load.py URL KEY PATH BODY PER_SECOND SECONDS` prints a JSON list of `[begun, seconds, status, retry_after,
code]`, where `begun` is in seconds since the first; a request that got no answer has the status 0.
"""

import asyncio
import json
import subprocess
import sys
import time
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """One request and what came of it."""

    begun: float
    seconds: float
    status: int
    retry_after: int | None
    code: str | None


class Load:
    """Sends the requests over as many kept connections as it needs."""

    def __init__(self, url: str, key: str, path: str, body: str) -> None:
        self._address = urlsplit(url)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.answers: list[Answer] = []

    async def run(self, per_second: float, seconds: float) -> None:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(int(per_second * seconds)):
                due = began + n / per_second
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
                group.create_task(self._one(due - began))

    async def _one(self, begun: float) -> None:
        start = time.perf_counter()
        try:
            status, retry_after, code = await self._exchange()
        except (OSError, EOFError):
            status, retry_after, code = 0, None, None
        self.answers.append(Answer(begun, time.perf_counter() - start, status, retry_after, code))

    async def _exchange(self) -> tuple[int, int | None, str | None]:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        writer.write(self._request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self._idle.append((reader, writer))
        retry_after = headers.get("retry-after")
        return int(first.split()[1]), retry_after and int(retry_after), body.get("code")


class Running:
    """The load, in a process of its own."""

    def __init__(self, url: str, key: str, path: str, body: str, per_second: float, seconds: float) -> None:
        arguments = map(str, (url, key, path, body, per_second, seconds))
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE)

    def wait(self, seconds: float) -> list[Answer]:
        """What came of it, once it has ended."""
        out, _ = self._process.communicate(timeout=seconds)
        return [Answer(*answer) for answer in json.loads(out)]

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    url, key, path, body, per_second, seconds = sys.argv[1:]
    load = Load(url, key, path, body)
    asyncio.run(load.run(float(per_second), float(seconds)))
    print(json.dumps(load.answers))


if __name__ == "__main__":
    main()
