"""An engine whose answers are costly to read. The prompt names the answer."""

import http.server
import os

MIB = 2**20
SMALL = b"[" + b"[]," * (8 * MIB // 3) + b"[]]"
DEEP = b'{"choices": [{"text": ' + b"[" * 1000 + b"]" * 1000 + b"}]}"
ANSWERS = {
    b"large": (200, b'{"choices": [{"text": "x"}], "more": ' + SMALL + b"}"),
    b"large refusal": (400, b'{"error": {"message": ' + SMALL + b"}}"),
    b"deep": (200, DEEP),
}
EVENTS = {
    b"large event": b'data: {"choices": [{"text": "x"}], "more": ' + SMALL + b"}\n\n",
    b"deep event": b"data: " + DEEP + b"\n\n",
    b"comments": b":\n" * (4 * MIB) + b"\n",
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"", "text/plain")

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["content-length"]))
        prompt = sent.partition(b'"prompt": "')[2].partition(b'"')[0]
        if prompt in EVENTS:
            self.answer(200, EVENTS[prompt] + b"data: [DONE]\n\n", "text/event-stream")
        else:
            self.answer(*ANSWERS[prompt], "application/json")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
