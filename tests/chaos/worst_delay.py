"""How long a request of one owner, the largest of its kind, keeps another owner's null prediction waiting.

`python -m tests.chaos.worst_delay` prints the table of docs/concepts/limits.md.
"""

import gzip
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from server_driver import SMALL, http, running, upload

from openlaunch import EndpointRequest, LaunchClient
from openlaunch.wire.sse import RESUME
from openlaunch_worker.files import PARTS
from openlaunch_worker.frames import with_parts

MIB = 1024 * 1024
LARGEST = 60 * MIB
"""Of a prediction's body: a little less than the server allows."""

DATA = Path(__file__).parents[1] / "data"
PAUSE_SECONDS = 0.002
ATTEMPTS = 3
"""Each kind is measured up to as often, and the best counts: on a busy machine, others delay predictions too."""

JSON = {"content-type": "application/json"}


class Beside:
    """A process that makes one null prediction after another, on one connection; its delays are in seconds."""

    def __init__(self, url: str, key: str, endpoint: str) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_predict, args=(url, key, endpoint, theirs), daemon=True)
        self._process.start()
        self.worst()

    def worst(self) -> float:
        """The longest delay since the last call."""
        self._ours.send(True)
        seconds: float = self._ours.recv()
        return seconds

    def stop(self) -> None:
        self._ours.send(False)
        self._process.join()


def _predict(url: str, key: str, endpoint: str, asked: Connection) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    body = b'{"args": {}}'
    head = (
        f"POST /v1/sync-tasks?model_endpoint_id={endpoint} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    worst = 0.0
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        while True:
            start = time.monotonic()
            connection.sendall(head.encode() + body)
            answer = connection.recv(65536)
            worst = max(worst, time.monotonic() - start)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            if asked.poll():
                if not asked.recv():
                    return
                asked.send(worst)
                worst = 0.0
            time.sleep(PAUSE_SECONDS)


def small(size: int) -> bytes:
    """JSON of this size that takes longest to parse: an array of empty arrays."""
    return b"[" + b"[]," * (size // 3) + b"[]]"


def args(value: bytes) -> bytes:
    return b'{"args": {"x": ' + value + b"}}"


def bulk(*bodies: bytes) -> bytes:
    return b'{"requests": [' + b",".join(bodies) + b"]}"


def takes_file(f: bytes) -> int:
    return len(f)


def one_item(size: int):
    yield "x" * size


def prints(lines: int) -> None:
    print("a\n" * lines, end="", flush=True)


class Mallory:
    """An owner whose requests are the largest of each kind; each method makes one, and gives its status."""

    def __init__(self, client) -> None:
        key = self._key = client.create_api_key("mallory").api_key
        predict_key = client.create_api_key("mallory", role="predict").api_key
        self._contexts = [http(client, key), http(client, predict_key)]
        self.raw, self.weak = (context.__enter__() for context in self._contexts)
        self.raw.timeout = self.weak.timeout = 120
        with LaunchClient(api_key=key, endpoint=client.server.url) as own:
            sync = own.deploy(lambda **_: None, name="mallory-sync", **SMALL)
            own.deploy(takes_file, name="mallory-file", **SMALL)
            large = SMALL | {"memory": "512Mi"}
            own.deploy(prints, name="mallory-log", **SMALL).predict(EndpointRequest(args={"lines": MIB}))
            self.log = own.get_model_endpoint("mallory-log").model_endpoint.id
            stream = own.deploy(one_item, name="mallory-stream", endpoint_type="streaming", **large)
            engine = own.create_model_bundle_from_command(
                model_bundle_name="mallory-engine",
                command=["python", "costly_engine/costly_engine.py"],
                base_paths=[str(DATA / "costly_engine")],
                healthcheck_route="/health",
                openai={"routes": ["/v1/completions"]},
            )
            own.create_model_endpoint(
                endpoint_name="mallory-engine",
                model_bundle=engine,
                endpoint_type="streaming",
                **SMALL | {"memory": "1Gi"},
            )
            queue = own.deploy(lambda **_: None, name="mallory-async", endpoint_type="async", **SMALL)
        self._has_image_bundles = False
        self._bundle = sync.model_endpoint.bundle_id
        self.sync, self.queue = sync.model_endpoint.id, queue.model_endpoint.id
        self.stream = stream.model_endpoint.id

    def at_once(self, method: str, path: str, body: bytes = b"", number: int = 200) -> int:
        """Send a request on each of many connections at once, and give the largest of the statuses."""
        url = self.raw.base_url
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection((url.host, url.port or 80), timeout=120))
                for _ in range(number)
            ]
            for connection in connections:
                connection.sendall(request)
            return max(int(connection.recv(65536)[9:12]) for connection in connections)

    def list_of_image_bundles(self) -> int:
        env = {f"K{n:04d}": "v" * 45 for n in range(1900)}
        image = {"image_repository": "a/b", "image_tag": "1", "command": ["x"], "env": env}
        path = "/v1/docker-image-batch-job-bundles"
        if not self._has_image_bundles:
            self._has_image_bundles = True
            for _ in range(200):
                assert self.raw.post(path, json={"name": "large", **image}).status_code == 200
        return self.raw.get(path).status_code

    def close(self) -> None:
        for context in self._contexts:
            context.__exit__(None, None, None)

    def post(self, path: str, body: bytes, *, weak: bool = False) -> int:
        return (self.weak if weak else self.raw).post(path, content=body, headers=JSON).status_code

    def predict(self, body: bytes) -> int:
        return self.post(f"/v1/sync-tasks?model_endpoint_id={self.sync}", body)

    def submit(self, body: bytes, many: str = "") -> int:
        return self.post(f"/v1/async-tasks{many}?model_endpoint_id={self.queue}", body)

    def form(self, part: bytes, parameter: str = "boundary=b") -> int:
        headers = {"content-type": f"multipart/form-data; {parameter}"}
        body = b"--b\r\nContent-Disposition: form-data; name=%b\r\n--b--\r\n" % part
        return self.raw.post("/e/mallory-file", content=body, headers=headers).status_code

    def compressed(self, body: bytes) -> int:
        headers = {**JSON, "content-encoding": "gzip"}
        return self.raw.post("/e/mallory-file", content=gzip.compress(body, 1), headers=headers).status_code

    def stream_by_name(self) -> int:
        return self.post("/e/mallory-stream", b'{"size": %d}' % LARGEST)

    def resumable_stream(self) -> int:
        path = f"/v1/streaming-tasks?model_endpoint_id={self.stream}"
        headers = {**JSON, RESUME: "true"}
        return self.raw.post(path, content=b'{"args": {"size": %d}}' % LARGEST, headers=headers).status_code

    def parts(self, document: bytes) -> int:
        headers = {"content-type": PARTS}
        path = f"/v1/sync-tasks?model_endpoint_id={self.sync}"
        return self.raw.post(path, content=with_parts(b"", document), headers=headers).status_code

    def bundle_of_schema(self, schema: object) -> int:
        where = upload(self.raw, json.dumps({"RequestSchema": schema}).encode())
        framework = {"framework_type": "pytorch", "pytorch_image_tag": "2"}
        flavor = {"flavor": "cloudpickle_artifact", "location": where, "requirements": []}
        flavor |= {"framework": framework, "load_predict_fn": "x", "load_model_fn": "x"}
        body = {"name": "schema", "schema_location": where, "flavor": flavor}
        return self.post("/v2/model-bundles", json.dumps(body).encode())

    def batch_job(self) -> int:
        rows = b"[" + b",".join([b'{"args": {}}'] * 200_000) + b"]"
        where = self.raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
        self.raw.put(where["signedUrl"], content=rows)
        job = self.raw.post(
            "/v1/batch-jobs",
            json={
                "model_bundle_id": self._bundle,
                "input_path": f"s3://{where['bucket']}/{where['key']}",
                "serialization_format": "JSON",
                "labels": {},
                "resource_requests": {**SMALL},
            },
        )
        time.sleep(5)
        self.raw.put(f"/v1/batch-jobs/{job.json()['job_id']}", json={"cancel": True})
        return int(job.status_code)

    def completion(self, prompt: str, **more: bytes) -> int:
        given = b"".join(b', "%b": %b' % (name.encode(), value) for name, value in more.items())
        body = b'{"prompt": "%b", "max_new_tokens": 1, "temperature": 0%b}' % (prompt.encode(), given)
        return self.post("/v1/llm/completions-sync?model_endpoint_name=mallory-engine", body)

    def file_of_completions(self) -> int:
        content = (
            b'{"prompts": ["x"], "max_new_tokens": 1, "temperature": 0, "more": ' + small(15 * MIB) + b"}"
        )
        made = self.raw.post("/v1/files", files={"file": ("a", content)}).json()["id"]
        asked = {"model_config": {"model": "none"}, "input_data_path": made, "output_data_path": "a"}
        return self.post("/v1/llm/batch-completions", json.dumps(asked).encode())

    def file_content(self) -> int:
        made = self.raw.post("/v1/files", files={"file": ("a", b"\x01" * (LARGEST // 2))}).json()["id"]
        return self.raw.get(f"/v1/files/{made}/content").status_code


EXPLODING = {
    "$ref": "#/$defs/a0",
    "$defs": {**{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(30)}, "a30": {}},
}
PATTERNS = {"properties": {f"p{i:06}": {"pattern": f"^[a-z]{{1,{i % 50 + 1}}}$"} for i in range(4000)}}

KINDS: dict[str, Callable[[Mallory], int]] = {
    "a prediction of 60 MiB of empty arrays": lambda m: m.predict(args(small(LARGEST))),
    "a prediction of one text of 60 MiB": lambda m: m.predict(args(b'"' + b"x" * LARGEST + b'"')),
    "a prediction of 8 MiB of escapes": lambda m: m.predict(
        args(b'"' + b"\\u00e9" * (MIB * 4 // 3 - 9) + b'"')
    ),
    "a task of 60 MiB of empty arrays": lambda m: m.submit(args(small(LARGEST))),
    "1,000 tasks in one request of 60 MiB": lambda m: m.submit(
        bulk(*[args(b"[" + b"0.123456," * 6500 + b"1]")] * 1000), "/bulk"
    ),
    "a wait of 60 MiB": lambda m: m.post("/v1/async-tasks/wait", b'{"task_ids": ' + small(LARGEST) + b"}"),
    "a new endpoint of 60 MiB, with a predict key": lambda m: m.post(
        "/v1/model-endpoints", b'{"metadata": ' + small(LARGEST) + b"}", weak=True
    ),
    "a new endpoint of 128 KiB, of values of the wrong type": lambda m: m.post(
        "/v1/model-endpoints", json.dumps({"labels": {str(i): i for i in range(1900)}}).encode()
    ),
    "a new bundle whose schema explodes": lambda m: m.bundle_of_schema(EXPLODING),
    "a new bundle whose schema has 4,000 patterns": lambda m: m.bundle_of_schema(PATTERNS),
    "a batch job of an array of 200,000 inputs": lambda m: m.batch_job(),
    "the text of a file of 30 MiB of control characters": lambda m: m.file_content(),
    "a form of 60 MiB of lines that begin like its end": lambda m: m.form(
        b'"f"; filename="f"\r\n\r\n' + b"\r\n--bx" * (LARGEST // 6)
    ),
    "a form of 60 MiB of lists": lambda m: m.form(
        (b'"f"\r\n\r\n' + small(MIB) + b"\r\n--b\r\nContent-Disposition: form-data; name=") * 60
        + b'"f"\r\n\r\n'
    ),
    "a form with a boundary behind 60,000 semicolons": lambda m: m.form(
        b'"f"\r\n\r\n1', 'a="' + ";" * 60_000
    ),
    "a body of parts with 60 MiB of args": lambda m: m.parts(args(small(LARGEST))[:-1] + b', "parts": []}'),
    "a compressed prediction of 60 MiB": lambda m: m.compressed(b'"' + b"x" * LARGEST + b'"'),
    "a stream by name of one item of 60 MiB": lambda m: m.stream_by_name(),
    "a resumable stream of one item of 60 MiB": lambda m: m.resumable_stream(),
    "a completion of 60 MiB of empty arrays": lambda m: m.completion(
        "large", guided_json=b'{"a": ' + small(LARGEST) + b"}"
    ),
    "a completion whose engine answers 8 MiB of empty arrays": lambda m: m.completion("large"),
    "a completion whose engine refuses it with 8 MiB": lambda m: m.completion("large refusal"),
    "a completion whose engine streams 8 MiB of comments": lambda m: m.completion("comments"),
    "batch completions of a file of 15 MiB of empty arrays": lambda m: m.file_of_completions(),
    "the end of a log, 4 MiB of lines of one letter": lambda m: (
        m.raw.get(f"/v1/model-endpoints/{m.log}/logs?tail_bytes={4 * MIB}").status_code
    ),
    "a list of 200 image bundles of 100 KiB": lambda m: m.list_of_image_bundles(),
    "200 predictions of 100 KiB of empty arrays at once": lambda m: m.at_once(
        "POST", f"/v1/sync-tasks?model_endpoint_id={m.sync}", args(small(100 * 1024))
    ),
    "200 waits for 1,000 tasks at once": lambda m: m.at_once(
        "POST",
        "/v1/async-tasks/wait",
        json.dumps({"task_ids": [f"tsk_{i:015}" for i in range(1000)]}).encode(),
    ),
    "200 requests of 100 tasks at once": lambda m: m.at_once(
        "POST", f"/v1/async-tasks/bulk?model_endpoint_id={m.queue}", bulk(*[b'{"args": {}}'] * 100)
    ),
    "200 requests for how the server stands at once": lambda m: m.at_once("GET", "/readyz"),
    "200 lists of endpoints at once": lambda m: m.at_once("GET", "/v1/model-endpoints"),
    "200 secrets at once": lambda m: m.at_once("PUT", "/v1/secrets/a", b'{"value": "x"}'),
    "the OpenAPI document, for the first time": lambda m: m.raw.get("/openapi.json").status_code,
}
"""The largest request of each kind."""


@contextmanager
def stage():
    """A server, an owner who makes the requests, and the null predictions of another one beside them."""
    with running() as client:
        null = client.deploy(lambda **_: None, name="null", **SMALL).model_endpoint.id
        beside, mallory = Beside(client.server.url, client.server.api_key, null), Mallory(client)
        try:
            yield beside, mallory
        finally:
            mallory.close()
            beside.stop()


def measure(beside: Beside, mallory: Mallory, kind: str, good: float) -> tuple[float, int]:
    """The worst delay beside a request of a kind, in seconds, and the request's status."""
    best, status = float("inf"), 0
    for _ in range(ATTEMPTS):
        beside.worst()
        status = KINDS[kind](mallory)
        best = min(best, beside.worst())
        if best < good:
            break
    return best, status


def main() -> None:
    """Print the table."""
    with stage() as (beside, mallory):
        print("| request | status | worst delay of another owner's null prediction |\n|---|---|---|")
        time.sleep(3)
        print(f"| none | | {beside.worst() * 1000:.0f} ms |")
        for kind in KINDS:
            worst, status = measure(beside, mallory, kind, 0.0)
            print(f"| {kind} | {status} | {worst * 1000:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
