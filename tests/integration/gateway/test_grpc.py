"""The Open Inference Protocol over gRPC: by messages of our own making, and by the unmodified `tritonclient`."""

import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from server_driver import SMALL, eventually, http, running
from triton_driver import BATCHES, NUMPY, batched, boom, called, check, image, named, pair, same, scaled, slow

from openlaunch.server.gateway.grpc_messages import METHODS, SERVICE
from openlaunch.testing import local

pytestmark = pytest.mark.slow

Infer = METHODS["ModelInfer"].request
TWO = np.array([1, 2], np.float32).tobytes()
STARTED = "started"


def large(x: np.ndarray):
    return np.zeros(900_000, np.float32)


def marks(x: np.ndarray, folder: str):
    path = Path(folder) / str(time.monotonic_ns())
    path.write_text(STARTED)
    try:
        while True:
            time.sleep(0.01)
    finally:
        path.write_text("interrupted")


def items(x: np.ndarray):
    yield x
    yield x


async def breaks(x: np.ndarray):
    yield x
    raise ValueError("no more")


def many(x: np.ndarray, folder: str):
    """Yield until it is stopped, and say how often."""
    count = 0
    try:
        while True:
            count += 1
            (Path(folder) / "count").write_text(str(count))
            yield np.zeros(100_000, np.uint8)
    finally:
        (Path(folder) / "ended").touch()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "grpc_port": port,
        "max_body_bytes": 2**24,
        "max_answers_bytes": 2**24,
        "max_connections": 400,
        "write_timeout_seconds": 2,
        "access_log": tmp_path_factory.mktemp("log") / "access",
    }
    with running(**settings) as client:
        for function in (same, scaled, pair, named, image, boom, slow, large):
            name = f"ti-{function.__name__}"
            client.deploy(function, name=name, requirements=NUMPY, max_workers=1, **SMALL)
        client.deploy(same, name="ti-later", requirements=NUMPY, endpoint_type="async", **SMALL)
        client.deploy(batched, name="ti-batched", requirements=NUMPY, max_workers=1, **BATCHES, **SMALL)
        for function in (items, breaks, many):
            client.deploy(
                function, name=f"ti-{function.__name__}", requirements=NUMPY, max_workers=1, **SMALL
            )
        client.deploy(lambda x: x, name="ti-plain", **SMALL)
        client.address, client.access_log = f"127.0.0.1:{port}", settings["access_log"]
        yield client


@pytest.fixture(scope="module")
def call(client):
    with grpc.insecure_channel(client.address, [("grpc.max_send_message_length", -1)]) as channel:

        def call(
            name, request, key=client.server.api_key, timeout=60, then=lambda future: future.result(), **more
        ):
            method = channel.unary_unary(
                f"/{SERVICE}/{name}", METHODS[name].request.SerializeToString, METHODS[name].answer.FromString
            )
            metadata = [*([("authorization", f"Bearer {key}")] if key else []), *more.items()]
            return then(method.future(request, timeout=timeout, metadata=metadata))

        yield call


def asked(*raw, shape=(2,), datatype="FP32", model="ti-same", **contents):
    request = Infer(model_name=model, raw_input_contents=raw)
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request


def refused(call, request, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", request, **more)
    return caught.value.code().name, caught.value.details()


def test_the_unmodified_client_gets_what_it_sent_to_the_bit(client):
    found = called("grpc", client.address, client.server.api_key)
    statuses = {name: status.removeprefix("StatusCode.") for name, status in check(found).items()}
    invalid = dict.fromkeys(("shape", "datatype", "name", "output", "plain"), "INVALID_ARGUMENT")
    missing = dict.fromkeys(("unknown", "version"), "NOT_FOUND")
    others = {"raises": "INTERNAL", "timeout": "DEADLINE_EXCEEDED", "key": "UNAUTHENTICATED"}
    assert statuses == {**invalid, **missing, **others}
    assert found["pair"] == ["r1", ["output_1"]]
    assert [name for name, came in found["streams"].items() if came != [True, True, ""]] == []
    streamed = found["streamed"]
    assert (streamed["one"], streamed["then"]) == ([True, "r2"], [True, True, "r3"])
    assert streamed["breaks"][0] is True
    assert "ValueError: no more" in streamed["breaks"][1]
    assert "ti-none" in streamed["none"][0]
    assert "one of FP32 and shape [2, 2] came" in streamed["shape"][0]


@pytest.mark.parametrize(
    ("datatype", "field", "values", "data"),
    [
        ("FP32", "fp32_contents", [1, 2], TWO),
        ("INT8", "int_contents", [1, -1], b"\1\xff"),
        ("UINT64", "uint64_contents", [1, 2**64 - 1], b"\1" + bytes(7) + b"\xff" * 8),
        ("BOOL", "bool_contents", [True, False], b"\1\0"),
        ("BYTES", "bytes_contents", [b"a\0", b""], b"\2\0\0\0a\0\0\0\0\0"),
    ],
)
def test_elements_may_be_in_the_message(call, datatype, field, values, data):
    answer = call("ModelInfer", asked(datatype=datatype, **{field: values}))
    assert list(answer.raw_output_contents) == [data]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (asked(TWO[:7]), "FP32 of shape [2] is 8 bytes, and binary_data_size is 7"),
        (asked(TWO, TWO), "raw_input_contents has 2 tensors, and there are 1 inputs"),
        (asked(TWO, fp32_contents=[1, 2]), "give all tensors in one way"),
        (asked(int_contents=[1, 2]), "FP32 of shape [2] is 8 bytes, and binary_data_size is 0"),
        (asked(datatype="INT8", int_contents=[1, 300]), "contents has a value that INT8 does not have"),
        (
            asked(datatype="FP16", fp32_contents=[1, 2]),
            "FP16 of shape [2] is 4 bytes, and binary_data_size is 0",
        ),
        (asked(shape=[100_001], fp32_contents=[1] * 100_001), "over 100000 elements"),
        (asked(TWO, shape=[-2]), "at least 0 is needed, and -2 was given"),
        (asked(TWO, shape=[2**62] * 32), "is allowed, and"),
        (asked(TWO, shape=[1] * 33), "over 32 dimensions"),
        (asked(TWO, datatype="FP8"), "'BF16' or 'BYTES' is needed, and 'FP8' was given"),
        (asked(TWO, model=""), "the model's name is empty"),
    ],
)
def test_what_is_no_tensor_is_refused(call, request_, said):
    code, details = refused(call, request_)
    assert code == "INVALID_ARGUMENT"
    assert said in details


def test_a_message_over_the_limit_of_bodies_is_refused(call):
    size = 2**24
    code, details = refused(call, asked(bytes(size), shape=[size], datatype="UINT8"))
    assert code == "RESOURCE_EXHAUSTED"
    assert f"the limit is {size} bytes" in details
    code, _ = refused(call, asked(bytes(4 * size), shape=[4 * size], datatype="UINT8"))
    assert code == "RESOURCE_EXHAUSTED"


def test_a_large_message_without_a_key_is_refused(call):
    size = 2**23
    for key in ("", "wrong"):
        code, details = refused(call, asked(bytes(size), shape=[size], datatype="UINT8"), key=key)
        assert (code, "key" in details) == ("UNAUTHENTICATED", True)


def test_health_needs_no_key_and_reads_no_message(client, call):
    for name in ("ServerLive", "ServerReady"):
        assert call(name, METHODS[name].request(), key="")
        data = bytes(2**23)
        with grpc.insecure_channel(client.address) as channel:
            method = channel.unary_unary(
                f"/{SERVICE}/{name}", response_deserializer=METHODS[name].answer.FromString
            )
            assert method(data, timeout=60)


def test_calls_without_a_message_do_not_keep_others_waiting(client, call):
    """As many calls as there are places have begun, and send nothing."""
    headers = [("authorization", f"Bearer {client.create_api_key('slow', 'predict').api_key}")]
    with grpc.insecure_channel(client.address) as channel:
        method = channel.stream_unary(f"/{SERVICE}/ModelInfer")
        gate = threading.Event()
        calls = [method.future(iter(gate.wait, True), metadata=headers) for _ in range(900)]
        eventually(lambda: any(each.done() for each in calls))
        said = next(each.exception().details() for each in calls if each.done())
        assert "too many calls are still to be read" in said
        for _ in range(20):
            call("ModelInfer", asked(TWO))
        for each in calls:
            each.cancel()
        gate.set()
    with grpc.insecure_channel(client.address) as channel:
        empty = channel.stream_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match="the call has no message"):
            empty(iter(()), timeout=60, metadata=headers)


class Unreading:
    """Calls over HTTP/2 of a client that lets the server send nothing of an answer."""

    def __init__(self, address, key):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.key, self.stream = key, 1
        no_window = struct.pack(">HI", 4, 0)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, no_window))
        self.socket.sendall(self.frame(4, 1, 0, b""))
        self.received = b""

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def call(self, message):
        head = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/{SERVICE}/ModelInfer",
            ":authority": "here",
            "te": "trailers",
            "content-type": "application/grpc",
            "authorization": f"Bearer {self.key}",
        }
        fields = [text.encode() for pair in head.items() for text in pair]
        pairs = zip(fields[::2], fields[1::2], strict=True)
        block = b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in pairs)
        data = message.SerializeToString()
        body = struct.pack(">BI", 0, len(data)) + data
        self.socket.sendall(self.frame(1, 4, self.stream, block) + self.frame(0, 1, self.stream, body))
        self.stream += 2

    def answers_pings(self):
        """Show that somebody is there, or the server would close the connection after a minute."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            self.received += self.socket.recv(100_000)
        self.socket.setblocking(True)
        while len(self.received) >= 9 and len(self.received) >= (
            end := 9 + (int.from_bytes(self.received[:3]))
        ):
            kind, flags, data = self.received[3], self.received[4], self.received[9:end]
            self.received = self.received[end:]
            if (kind, flags) == (6, 0):
                self.socket.sendall(self.frame(6, 1, 0, data))
        return True


def test_answers_that_nobody_reads_take_bounded_memory_for_a_bounded_time(client, call):
    key = client.create_api_key("unreading", "predict").api_key
    client.edit_model_endpoint(model_endpoint="ti-large", public=True)
    request = asked(TWO, model="admin/ti-large")
    unreading = Unreading(client.address, key)
    with unreading.socket:
        for _ in range(6):  # of 3.6 MB each; an owner may have half of 32 MiB
            unreading.call(request)

        def is_full():
            try:
                call("ModelInfer", request, key=key)
            except grpc.RpcError as error:
                return error.code().name == "UNAVAILABLE" and "yours" in error.details()
            return False

        eventually(is_full)
        assert call("ModelInfer", request)  # another owner
        eventually(lambda: unreading.answers_pings() and not is_full(), 90)
        assert unreading.socket.recv(1) == b""


def test_strangers_connections_are_bounded_and_leave_those_of_http(client):
    host, _, port = client.address.rpartition(":")

    def is_open(each):
        each.setblocking(False)
        try:
            return bool(each.recv(1000))  # the server's settings come at once
        except BlockingIOError:
            return True
        except OSError:
            return False

    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(80)]
        # Sooner than those are closed that say nothing for `read_timeout_seconds`.
        eventually(lambda: sum(map(is_open, idle)) <= 400 // 8, 20)
        with http(client) as raw:
            assert raw.get("/healthz").status_code == 200


def test_limits_of_keys_hold(client, call):
    made = client.create_api_key("admin", "predict", requests_per_day=1)
    call("ModelInfer", asked(TWO), key=made.api_key)
    code, details = refused(call, asked(TWO), key=made.api_key)
    assert code == "RESOURCE_EXHAUSTED"
    assert "requests" in details


def test_a_call_is_a_line_of_the_access_log(client, call):
    call("ModelInfer", asked(TWO), **{"x-request-id": "grpc-1"})
    line = eventually(
        lambda: next((x for x in client.access_log.read_text().splitlines() if "grpc-1" in x), None)
    )
    assert "client=127.0.0.1 owner=admin" in line
    assert "path=/v2/models/ti-same/infer status=200" in line


def test_a_call_that_is_cancelled_or_late_stops_its_prediction(client, call, tmp_path):
    client.deploy(marks, name="ti-marks", requirements=NUMPY, max_workers=1, **SMALL)
    request = asked(TWO, model="ti-marks")
    request.parameters["folder"].string_param = str(tmp_path)

    def started(number):
        return lambda: len([each for each in tmp_path.iterdir() if each.read_text()]) == number

    future = call("ModelInfer", request, then=lambda future: future)
    eventually(started(1))
    future.cancel()
    eventually(lambda: all(each.read_text() == "interrupted" for each in tmp_path.iterdir()))
    code, _ = refused(call, request, timeout=0.5)
    assert code == "DEADLINE_EXCEEDED"
    eventually(lambda: all(each.read_text() == "interrupted" for each in tmp_path.iterdir()))


def test_a_server_without_the_port_has_nothing_of_grpc_in_it(client):
    with local() as other:
        maps, without = (Path(f"/proc/{each.server.pid}/maps").read_text() for each in (client, other))
    assert "cygrpc" in maps
    assert "cygrpc" not in without


def test_a_port_that_is_taken_is_refused(client, tmp_path):
    port = client.address.rpartition(":")[2]
    with (
        pytest.raises(Exception, match=f"can't listen on 127.0.0.1:{port} for gRPC"),
        running(tmp_path, grpc_port=port),
    ):
        pass


FORKS = """
import asyncio, os
from openlaunch.server.http_parts import _grpc
from openlaunch.server.settings import Settings

_grpc(Settings(), 0, None)
import grpc

async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)
    await server.stop(0)

asyncio.run(main())
"""


def test_a_fork_writes_nothing_into_the_log():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""


@pytest.fixture
def streams(client):
    with grpc.insecure_channel(client.address) as channel:
        method = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            Infer.SerializeToString,
            METHODS["ModelStreamInfer"].answer.FromString,
        )
        yield lambda requests, key: method(requests, metadata=[("authorization", f"Bearer {key}")])


def test_a_stream_that_nobody_reads_is_held_up_and_ends_with_its_call(client, streams, tmp_path):
    request = asked(TWO, model="ti-many")
    request.parameters["folder"].string_param = str(tmp_path)
    call = streams(iter([request]), client.server.api_key)
    assert len(next(call).infer_response.raw_output_contents[0]) == 100_000

    def count():
        return int((tmp_path / "count").read_text() or 0)

    before = count()

    def stands():
        nonlocal before
        before, last = count(), before
        return before == last > 1

    eventually(stands)
    assert count() < 1000  # of 100 kB each
    call.cancel()
    eventually((tmp_path / "ended").exists)


def test_streams_without_a_key_and_more_than_there_are_places_for_are_refused(client, streams):
    with pytest.raises(grpc.RpcError) as caught:
        next(streams(iter([asked(TWO)]), "wrong"))
    assert caught.value.code().name == "UNAUTHENTICATED"
    gate = threading.Event()
    key = client.create_api_key("streams", "predict").api_key
    calls = [streams(iter(gate.wait, True), key) for _ in range(100)]
    eventually(lambda: any(each.done() for each in calls))
    said = next(each.details() for each in calls if each.done())
    assert "too many streams are open" in said
    answer = next(streams(iter([asked(TWO)]), client.server.api_key))
    assert list(answer.infer_response.raw_output_contents) == [TWO]
    for each in calls:
        each.cancel()
    gate.set()
