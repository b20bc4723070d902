"""A small HTTP model server as source text, for bundles that are a command or an image."""

_START = """
import http.server, json, os, select, socket, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections = 0
    left = 0

    def setup(self):
        super().setup()
        Handler.connections += 1

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(200 if self.path == "/readyz" else 404, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, n):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for i in range(n):
            self.wfile.write(b"data: %s\\n\\n" % json.dumps({"i": i}).encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\\n\\n")
        self.close_connection = True
"""

_END = """
time.sleep(float(os.environ.get("START_SECONDS", 0)))
print("serving on", os.environ["PORT"], flush=True)
http.server.ThreadingHTTPServer((HOST, int(os.environ["PORT"])), Handler).serve_forever()
"""


def model_server(do_post: str, host: str = "127.0.0.1") -> str:
    """The source of a server on `$PORT`, with this method of its handler, `do_POST`."""
    return f"{_START}{do_post}\nHOST = {host!r}\n{_END}"
