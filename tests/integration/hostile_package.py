"""A package that is served over HTTP, and whose build does what it should not be able to do."""

import http.server
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

from http_service import http_service

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "hostile"
version = "1.0"
"""

_BACKEND = """
import json, os, zipfile

def build_wheel(folder, settings=None, metadata=None):
    name = "hostile-1.0-py3-none-any.whl"
    found = json.dumps(run())
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("hostile.py", f"FOUND = {found!r}\\n")
        about = "hostile-1.0.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\\nName: hostile\\nVersion: 1.0\\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(about + "RECORD", "")
    return name
"""


@contextmanager
def serving(script: str) -> Iterator[str]:
    """Give a requirement whose build calls the script's `run`; `hostile.FOUND` is what that returned, as JSON."""
    data = _source(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http_service(Handler) as server:
        yield f"hostile @ http://127.0.0.1:{server.server_port}/hostile-1.0.tar.gz"


def _source(script: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (
            ("pyproject.toml", PROJECT),
            ("PKG-INFO", "Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n"),
            ("backend.py", script + _BACKEND),
        ):
            info = tarfile.TarInfo(f"hostile-1.0/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()
