"""Cases of request smuggling, and what servers and proxies make of them: this server, h11, nginx and HAProxy.

`python tests/chaos/smuggling.py` prints the table of docs/reference/request-smuggling.md; it needs nginx and HAProxy,
which `tools/install.sh` installs. A case is bytes of one connection with a request for `/A`, and inside or
behind it one for `/B`. Smuggled is `/B` where a proxy thinks that it is a part of `/A`, and the server behind it runs
it.
"""

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import h11
import uvloop

from openlaunch.errors import Unauthorized
from openlaunch.server.bodies import BodyBudget
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.http_server import HttpServer
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.gateway.unread_answers import UnreadAnswers
from openlaunch.server.proxies import Proxies
from openlaunch.server.settings import Settings

QUIET_SECONDS = 0.5
INNER = b"GET /B HTTP/1.1\r\nHost: x\r\n\r\n"
SIZE = len(INNER)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, INNER)
HEADING = (
    "| Case | Openlaunch | h11 | nginx | Openlaunch behind nginx | HAProxy | Openlaunch behind HAProxy |"
)
REFUSED = "refused"
IGNORED = "nothing"


def post(
    *headers: bytes, body: bytes = b"", line: bytes = b"POST /A HTTP/1.1", host: bytes = b"Host: x"
) -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *headers, b"", b""]) + body


def length(*headers: bytes, body: bytes = INNER, **more: bytes) -> bytes:
    return post(b"Content-Length: %d" % len(body), *headers, body=body, **more)


def chunked(body: bytes = CHUNKED, *headers: bytes, **more: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *headers, body=body, **more)


TE = b"Transfer-Encoding: chunked"
CL = b"Content-Length: %d" % SIZE
LONG_END = b"0\r\n\r\n" + INNER

CASES: dict[str, bytes] = {
    # What is right, and has to be read in one way.
    "a body of a known length": length(),
    "a body in chunks": chunked(),
    "two requests, one after the other": length(body=b"") + INNER,
    "GET with a body": length(line=b"GET /A HTTP/1.1"),
    "HEAD with a body": length(line=b"HEAD /A HTTP/1.1"),
    "OPTIONS with a body": length(line=b"OPTIONS /A HTTP/1.1"),
    "empty lines before the request": b"\r\n\r\n" + length(),
    "a chunk with an extension": chunked(b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (SIZE, INNER)),
    "a trailer": chunked(CHUNKED[:-2] + b"X: y\r\n\r\n"),
    "Expect: 100-continue": length(b"Expect: 100-continue"),
    "an absolute target, and another Host": length(line=b"POST http://y/A HTTP/1.1"),
    "Content_Length, with an underscore": post(
        b"Content_Length: %d" % SIZE, b"Content-Length: 0", body=INNER
    ),
    # Two lengths.
    "Content-Length, then chunked (CL.TE)": post(b"Content-Length: %d" % len(LONG_END), TE, body=LONG_END),
    "chunked, then Content-Length (TE.CL)": post(TE, b"Content-Length: 4", body=CHUNKED),
    "Content-Length: 0, and chunked": post(b"Content-Length: 0", TE, body=CHUNKED),
    "Content-Length twice, the same": post(CL, CL, body=INNER),
    "Content-Length twice, 0 first": post(b"Content-Length: 0", CL, body=INNER),
    "Content-Length twice, 0 last": post(CL, b"Content-Length: 0", body=INNER),
    "Content-Length: a list": post(b"Content-Length: %d, %d" % (SIZE, SIZE), body=INNER),
    # Lengths that are none.
    "Content-Length: +N": post(b"Content-Length: +%d" % SIZE, body=INNER),
    "Content-Length: -N": post(b"Content-Length: -%d" % SIZE, body=INNER),
    "Content-Length: 0xN": post(b"Content-Length: 0x%x" % SIZE, body=INNER),
    "Content-Length: N N": post(b"Content-Length: %d %d" % (SIZE, SIZE), body=INNER),
    "Content-Length: nothing": post(b"Content-Length: ", body=INNER),
    "Content-Length: beyond 64 bits": post(b"Content-Length: %d" % (2**64 + SIZE), body=INNER),
    "Content-Length after a vertical tab": post(b"Content-Length: \x0b%d" % SIZE, body=INNER),
    # Codings that are none.
    "Transfer-Encoding: xchunked": post(b"Transfer-Encoding: xchunked", CL, body=INNER),
    "Transfer-Encoding: chunked, identity": post(b"Transfer-Encoding: chunked, identity", body=CHUNKED),
    "Transfer-Encoding: identity, chunked": post(b"Transfer-Encoding: identity, chunked", body=CHUNKED),
    "Transfer-Encoding: gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "Transfer-Encoding twice": post(TE, b"Transfer-Encoding: identity", body=CHUNKED),
    "Transfer-Encoding after a vertical tab": post(b"Transfer-Encoding: \x0bchunked", CL, body=INNER),
    'Transfer-Encoding: "chunked", in quotes': post(b'Transfer-Encoding: "chunked"', CL, body=INNER),
    "Transfer-Encoding in HTTP/1.0": post(
        TE, b"Connection: keep-alive", body=CHUNKED, line=b"POST /A HTTP/1.0"
    ),
    "Transfer-Encoding with a trailing tab": post(b"Transfer-Encoding: chunked\t", body=CHUNKED),
    # Lines.
    "a space before the colon": post(b"Transfer-Encoding : chunked", CL, body=CHUNKED),
    "a header on two lines": post(b"Transfer-Encoding:\r\n chunked", CL, body=CHUNKED),
    "another header on two lines": length(b"X: a\r\n b"),
    "a space before the first header": post(CL, body=INNER, host=b" X: y\r\nHost: x"),
    "lines that end in LF": length().replace(b"\r\n", b"\n"),
    "LF inside a header": post(b"X: y\nTransfer-Encoding: chunked", CL, body=CHUNKED),
    "CR inside a header": post(b"X: y\rTransfer-Encoding: chunked", CL, body=CHUNKED),
    "NUL in a value": length(b"X: a\x00b"),
    "NUL in a name": post(b"Transfer-Encoding\x00: chunked", CL, body=CHUNKED),
    "a header without a colon": length(b"Transfer-Encoding chunked"),
    "two spaces in the request line": length(line=b"POST  /A HTTP/1.1"),
    "a tab in the request line": length(line=b"POST\t/A HTTP/1.1"),
    "http/1.1 in small letters": length(line=b"POST /A http/1.1"),
    "HTTP/1.10": length(line=b"POST /A HTTP/1.10"),
    "HTTP/0.9": b"GET /A\r\n\r\n" + INNER,
    "no Host": length(host=b""),
    "two Hosts": length(b"Host: y"),
    # Chunks.
    "a chunk's size with 0x": chunked(b"0x" + CHUNKED),
    "a chunk's size with +": chunked(b"+" + CHUNKED),
    "a space before a chunk's size": chunked(b" " + CHUNKED),
    "a space behind a chunk's size": chunked(b"%x \r\n%b\r\n0\r\n\r\n" % (SIZE, INNER)),
    "a chunk's size beyond 64 bits": chunked(b"1%016x\r\n%b\r\n0\r\n\r\n" % (SIZE, INNER)),
    "a chunk's size that ends in LF": chunked(b"%x\n%b\r\n0\r\n\r\n" % (SIZE, INNER)),
    "LF in a chunk's extension": chunked(b"%x;\n%b\r\n0\r\n\r\n" % (SIZE, INNER)),
    "a chunk that ends in LF": chunked(b"%x\r\n%b\n0\r\n\r\n" % (SIZE, INNER)),
    "a chunk that is longer than it says": chunked(b"1\r\nab\r\n0\r\n\r\n" + INNER),
    "an end that is LF LF": chunked(b"0\n\n" + INNER),
    "a length in a trailer": chunked(b"0\r\nContent-Length: %d\r\n\r\n" % SIZE + INNER),
    # Other ways out.
    "Upgrade: h2c, and a body": length(
        b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
    ),
    "Upgrade: websocket, and a body": length(
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
    "Upgrade: websocket, and a request behind it": post(
        b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET /A HTTP/1.1"
    )
    + INNER,
    "Connection: Content-Length": length(b"Connection: Content-Length"),
    "Connection: Transfer-Encoding": chunked(CHUNKED, b"Connection: Transfer-Encoding"),
    "CONNECT": post(line=b"CONNECT /A HTTP/1.1", body=INNER),
    "PRI * HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
}


# What servers make of them.


def services_of(app, admit, handlers=None) -> HttpServices:
    """What this server's connections need, with an application and hot routes of a test."""
    return HttpServices(
        routes=RouteTable(handlers or {}),
        app=app,
        proxies=Proxies(Settings()),
        cors=None,
        endpoint_origins=lambda head: frozenset(),
        admit=admit,
        admit_scraper=lambda header, headers: admit({"headers": headers}),
        connections=Connections(1000),
        bodies=BodyBudget(10_000_000),
        unread=BodyBudget(1_000_000),
        unsent=BodyBudget(1_000_000),
        answers=UnreadAnswers(10_000_000, Path(tempfile.gettempdir()), 5.0, ArrivingAnswers(10_000_000)),
        max_body_bytes=100_000,
        read_seconds=5.0,
        write_seconds=5.0,
    )


@dataclass
class Site:
    """This server, with an application that notes which requests it is called for."""

    seen: list[str] = field(default_factory=list)

    def start(self) -> int:
        def admit(scope: object) -> None:
            raise Unauthorized("no key")

        services = services_of(self._app, admit)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._server = HttpServer(services, listener, None)
        self._server.start()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        await self._server.stop()

    async def _app(self, scope, receive, send) -> None:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            if not message["more_body"]:
                break
        self.seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def ask(port: int, data: bytes, quiet: float = QUIET_SECONDS) -> bytes:
    """Send bytes, and give what comes until the connection is closed or quiet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    writer.write(data)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65536), quiet):
            answer += piece
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [code for each in re.findall(rb"HTTP/1\.[01] (\d{3})", answer) if (code := int(each)) >= 200]


def told(paths: list[str], codes: list[int]) -> str:
    """In words: which requests there were, or with which status they were refused."""
    if paths:
        return " and ".join(paths)
    return f"{REFUSED} ({codes[0]})" if codes else IGNORED


async def by_this_server(data: bytes) -> str:
    """Which requests this server runs, or with what it refuses them."""
    site = Site()
    answer = await ask(site.start(), data)
    await site.stop()
    return told(site.seen, statuses(answer))


async def by_servers() -> dict[str, tuple[str, str]]:
    """What this server and h11 make of each case."""
    ours = await asyncio.gather(*(by_this_server(data) for data in CASES.values()))
    return {name: (one, by_h11(data)) for (name, data), one in zip(CASES.items(), ours, strict=True)}


def by_h11(data: bytes) -> str:
    """The requests that h11 sees up to the first that it refuses."""
    parser, found, target = h11.Connection(h11.SERVER), [], ""
    parser.receive_data(data)
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            return told(found, [error.error_status_hint])
        if isinstance(event, h11.Request):
            target = "/" + event.target.decode("latin-1").rpartition("/")[2]
        elif isinstance(event, h11.EndOfMessage):
            found.append(target)
            with contextlib.suppress(h11.LocalProtocolError):
                parser.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                parser.send(h11.EndOfMessage())
            if parser.our_state is not h11.DONE:
                return told(found, [])
            parser.start_next_cycle()
        elif not isinstance(event, h11.Data):
            return told(found, [])


# Chains: a proxy, and this server behind it.

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
  log_format seen '$request_uri $status'; access_log {folder}/seen.log seen;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  map $http_upgrade $upgrade {{ default upgrade; '' ''; }}
  upstream site {{ server 127.0.0.1:{site}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://site; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade;
    }}
  }}
}}
"""
HAPROXY = """
global
  log stdout format raw local0
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
  log global
  log-format "%HU %ST"
  option http-keep-alive
  http-reuse always
frontend front
  bind 127.0.0.1:{port}
  default_backend site
backend site
  server site 127.0.0.1:{site}
"""


class Chain:
    """A proxy in front of this server, which logs the requests that it sees."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self._site = Site()
        self._log = folder / "seen.log"

    async def __aenter__(self) -> "Chain":
        site = self._site.start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        config = self._folder / "config"
        text = NGINX if self._program == "nginx" else HAPROXY
        config.write_text(text.format(folder=self._folder, port=self.port, site=site))
        command = {
            "nginx": ["nginx", "-p", str(self._folder), "-c", str(config)],
            "haproxy": ["haproxy", "-db", "-f", str(config)],
        }[self._program]
        with (self._folder / ("seen.log" if self._program == "haproxy" else "out.log")).open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            await asyncio.sleep(0.01)
        raise AssertionError(f"{self._program} does not listen")

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        await self._site.stop()

    async def ask(self, data: bytes) -> tuple[list[str], list[str], list[int]]:
        """Send bytes; gives which requests the proxy took, which this server saw, and the client's statuses."""
        await asyncio.sleep(0.05)
        before = self._log.stat().st_size if self._log.exists() else 0
        self._site.seen.clear()
        answer = await ask(self.port, data)
        await asyncio.sleep(0.2)
        lines = self._log.read_bytes()[before:].decode("latin-1") if self._log.exists() else ""
        taken = ["/" + target.rpartition("/")[2] for target in re.findall(r"(?m)^(\S+) [23]\d\d$", lines)]
        return taken, list(self._site.seen), statuses(answer)


async def by_chain(folder: Path, program: str, cases: dict[str, bytes] = CASES) -> dict[str, tuple[str, str]]:
    """What a proxy took, and what this server behind it saw, by case."""
    found = {}
    async with Chain(folder, program) as chain:
        for name, data in cases.items():
            taken, seen, codes = await chain.ask(data)
            found[name] = told(taken, codes), " and ".join(seen) or IGNORED
    return found


def is_smuggled(proxy: str, behind: str) -> bool:
    """Whether the server behind a proxy ran a request that the proxy did not see."""
    return behind.count("/B") > proxy.count("/B") or behind.count("/A") > max(1, proxy.count("/A"))


def table() -> str:
    """Make the table of the documentation."""
    rows = {name: list(cells) for name, cells in uvloop.run(by_servers()).items()}
    for program in ("nginx", "haproxy"):
        with tempfile.TemporaryDirectory() as folder:
            for name, (proxy, behind) in uvloop.run(by_chain(Path(folder), program)).items():
                rows[name] += [proxy, behind]
    lines = [HEADING, "|" + "---|" * HEADING.count(" | ") + "---|"]
    lines += [" | ".join([f"| {name}", *cells]) + " |" for name, cells in rows.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if not (shutil.which("nginx") and shutil.which("haproxy")):
        sys.exit("nginx and haproxy are needed: tools/install.sh nginx haproxy")
    print(table())
