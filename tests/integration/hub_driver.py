"""A hub of models on this machine, which can break answers off, and files that it has over plain HTTP."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
WEIGHTS = bytes(range(256)) * 4096
"""One MiB."""
FILES = {"config.json": b'{"layers": 2}', "sub/model.safetensors": WEIGHTS}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub's API does for the repository `org/model`, and at /plain/ with the weights."""

    protocol_version = "HTTP/1.1"
    token: ClassVar[str | None] = None
    cut_at: ClassVar[int | None] = None
    """After how many bytes an answer of a file is broken off; each further one after as many more."""
    gate: ClassVar[threading.Event | None] = None
    """What an answer waits for in its middle."""
    files: ClassVar[dict[str, bytes]] = dict(FILES)
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        type(self).seen.append((path, self.headers.get("Range")))
        if self.token is not None and self.headers.get("Authorization") != f"Bearer {self.token}":
            self._send(401, b"{}")
        elif path in ("/api/models/org/model/revision/main", "/api/models/org/model/revision/v1"):
            siblings = [self._sibling(name, data) for name, data in self.files.items()]
            self._send(200, json.dumps({"sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/org/model/resolve/{COMMIT}/"):
            self._send_file(self.files.get(path.partition(f"{COMMIT}/")[2]))
        elif path == "/plain/weights.bin":
            self._send_file(WEIGHTS)
        else:
            self._send(404, b"{}")

    def _sibling(self, name, data):
        return {
            "rfilename": name,
            "size": len(data),
            "lfs": {"sha256": hashlib.sha256(data).hexdigest()} if len(data) > 1000 else None,
        }

    def _send_file(self, data):
        if data is None:
            self._send(404, b"")
            return
        start = 0
        if (asked := self.headers.get("Range")) is not None:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        part = data[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        if self.cut_at is not None and len(part) > self.cut_at:
            self.wfile.write(part[: self.cut_at])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if self.gate is not None and len(part) > 1000:
            self.wfile.write(part[:1000])
            self.wfile.flush()
            self.gate.wait(60)
            part = part[1000:]
        self.wfile.write(part)

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""
