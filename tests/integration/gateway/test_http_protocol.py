"""The predict routes as HTTP/1.1 on a bare connection: what clients other than ours may send."""

import shutil
import socket
import subprocess
import time
from functools import partial

import pytest
from raw_http import connected
from server_driver import SMALL, eventually, running

BIG = 3 * 2**20


def double(x):
    return 2 * x


def queued(x):
    return 2 * x


def size_of(text):
    return len(text)


def echo(text):
    return text


def count(n):
    yield from range(n)


def endless(path):
    import pathlib

    counted = pathlib.Path(path)
    with counted.open("wb") as file:
        while True:
            yield "x" * 10_000
            file.write(b".")
            file.flush()


def wait_until_cancelled(path):
    import pathlib
    import time

    try:
        while True:
            yield "more"
            time.sleep(0.01)
    finally:
        pathlib.Path(path).touch()


@pytest.fixture(scope="module")
def client():
    with running(max_body_bytes=BIG + 1000) as client:
        for function, kind in (
            *((double, "sync"), (size_of, "sync"), (echo, "sync")),
            (queued, "async"),
            *((count, "streaming"), (endless, "streaming"), (wait_until_cancelled, "streaming")),
        ):
            name = function.__name__.replace("_", "-")
            client.deploy(function, name=name, endpoint_type=kind, wait=False, **SMALL)
        for endpoint in client.list_model_endpoints():
            endpoint.wait_until_ready(60)
        yield client


@pytest.fixture
def connect(client):
    return partial(connected, client)


def test_a_connection_serves_many_requests(connect):
    with connect() as wire:
        for x in range(3):
            wire.sock.sendall(wire.request("double", {"x": x}))
            assert wire.value() == 2 * x


@pytest.mark.parametrize("size", [0, 4000])
def test_the_head_of_the_request_before_begins_another_request(connect, size):
    """It is not read again where it is small; its bytes are the same, and the body, and how it comes, are not."""
    with connect() as wire:
        first, second, third = (
            wire.request("double", {"x": x}, headers=[f"X-More: {'x' * size}"]) for x in (1, 2, 3)
        )
        within_head, within_body = first.index(b"\r\n\r\n") + 2, len(first) - 3
        wire.sock.sendall(first)
        assert wire.value() == 2
        wire.sock.sendall(second[:within_body])
        wire.sock.sendall(second[within_body:] + third + first[:within_head])
        assert (wire.value(), wire.value()) == (4, 6)
        wire.sock.sendall(first[within_head:])
        assert wire.value() == 2
        wire.sock.sendall(first.replace(b"Authorization: Bearer", b"Authorization: Bearer no"))
        assert wire.answer()[0] == 401
        wire.sock.sendall(third)
        assert wire.value() == 6


def test_pipelined_requests_are_answered_in_order(connect):
    with connect() as wire:
        wire.sock.sendall(b"".join(wire.request("double", {"x": x}) for x in range(20)))
        assert [wire.value() for _ in range(20)] == [2 * x for x in range(20)]


def test_pipelined_requests_that_are_refused_are_answered_in_order_too(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("double", {"x": 1}))
        wire.sock.sendall(wire.request("double", {"x": 1}, key="wrong") * 2000)
        wire.sock.sendall(wire.request("double", {"x": 2}))
        assert wire.value() == 2
        assert {wire.answer()[0] for _ in range(2000)} == {401}
        assert wire.value() == 4


def test_other_routes_and_predictions_share_a_connection(connect):
    with connect() as wire:
        wire.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + wire.request("double", {"x": 3}))
        assert wire.answer()[0] == 200
        assert wire.value() == 6
        wire.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer()[0] == 200


def test_tasks_and_their_results_may_be_pipelined(connect):
    with connect() as wire:
        wire.sock.sendall(b"".join(wire.request("queued", {"x": x}) for x in range(5)))
        ids = [wire.answer()[1]["task_id"] for _ in range(5)]
        wire.sock.sendall(b"".join(wire.result_of(task_id) for task_id in reversed(ids)))
        assert [wire.value() for _ in range(5)] == [8, 6, 4, 2, 0]


def test_the_id_of_a_task_may_be_escaped(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("queued", {"x": 4}))
        task_id = wire.answer()[1]["task_id"]
        wire.sock.sendall(wire.result_of(f"%{ord(task_id[0]):02x}{task_id[1:]}"))
        assert wire.value() == 8


def test_what_is_below_a_task_is_another_route(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("queued", {"x": 4}))
        task_id = wire.answer()[1]["task_id"]
        wire.sock.sendall(wire.result_of(f"{task_id}/details") + wire.result_of(f"{task_id}/no-such"))
        assert wire.answer()[1]["task_id"] == task_id
        assert wire.answer()[0] == 404


@pytest.mark.parametrize("base", ["http://x", "https://some.where:80"])
def test_a_url_may_be_absolute(connect, base):
    with connect() as wire:
        wire.sock.sendall(wire.request("double", {"x": 1}, base=base))
        assert wire.value() == 2
        wire.sock.sendall(wire.request("queued", {"x": 2}, base=base))
        wire.sock.sendall(wire.result_of(wire.answer()[1]["task_id"], base=base))
        assert wire.value() == 4


def test_a_body_may_come_in_pieces(connect):
    with connect() as wire:
        request = wire.request("size-of", {"text": "x" * 100_000})
        for start in range(0, len(request), 30_000):
            wire.sock.sendall(request[start : start + 30_000])
        assert wire.value() == 100_000


def test_a_chunked_body_is_taken(connect):
    with connect() as wire:
        request = wire.request("double", {}, body=b"", headers=["Transfer-Encoding: chunked"])
        request = request.replace(b"Content-Length: 0\r\n", b"")
        wire.sock.sendall(request + b'8\r\n{"args":\r\n9\r\n {"x": 4}\r\n1\r\n}\r\n0\r\n\r\n')
        assert wire.value() == 8


def test_a_large_body_and_a_large_answer(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("echo", {"text": "ä" * (BIG // 6)}))
        assert wire.value() == "ä" * (BIG // 6)


def test_a_body_is_asked_for_where_the_client_waits_for_that(connect):
    with connect() as wire:
        request = wire.request("double", {"x": 5}, headers=["Expect: 100-continue"])
        head, _, body = request.partition(b"\r\n\r\n")
        wire.sock.sendall(head + b"\r\n\r\n")
        assert wire.head()[0] == 100
        wire.sock.sendall(body)
        assert wire.value() == 10


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_comes(connect):
    with connect() as wire:
        request = wire.request("size-of", {}, body=b"", headers=["Expect: 100-continue"])
        wire.sock.sendall(request.replace(b"Content-Length: 0", b"Content-Length: %d" % (2 * BIG)))
        assert wire.answer()[0] == 413


def test_a_chunked_body_that_grows_too_large_is_refused(connect):
    with connect() as wire:
        request = wire.request("size-of", {}, body=b"", headers=["Transfer-Encoding: chunked"])
        wire.sock.sendall(request.replace(b"Content-Length: 0\r\n", b""))
        chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        wire.sock.sendall(chunk * (BIG // 2**20 + 1) + b"0\r\n\r\n")
        assert wire.answer()[0] == 413
        wire.sock.sendall(wire.request("double", {"x": 1}))
        assert wire.value() == 2


@pytest.mark.parametrize(("version", "headers"), [("1.0", ()), ("1.1", ("Connection: close",))])
def test_a_connection_that_is_not_to_stay_is_closed(connect, version, headers):
    with connect() as wire:
        wire.sock.sendall(wire.request("double", {"x": 6}, version=version, headers=headers))
        status, given = wire.head()
        assert (status, given["connection"]) == (200, "close")
        assert b'"12"' in wire.rest()


def test_a_stream_is_chunked(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("count", {"n": 3}))
        status, headers = wire.head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert headers["content-type"].startswith("text/event-stream")


def test_a_stream_to_an_old_client_ends_with_its_connection(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("count", {"n": 3}, version="1.0"))
        status, headers = wire.head()
        assert (status, "transfer-encoding" in headers, headers["connection"]) == (200, False, "close")
        body = wire.rest()
        assert body.count(b"data: ") == 3
        assert body.endswith(b": end\n\n")


def test_a_connection_goes_on_after_a_stream(connect):
    with connect() as wire:
        wire.sock.sendall(wire.request("count", {"n": 1}))
        wire.head()
        wire.sock.sendall(wire.request("double", {"x": 7}))
        while wire._file.readline() != b"0\r\n":
            pass
        wire._file.readline()
        assert wire.value() == 14


def test_a_client_that_leaves_stops_its_stream(connect, tmp_path):
    path = tmp_path / "ended"
    with connect() as wire:
        wire.sock.sendall(wire.request("wait-until-cancelled", {"path": str(path)}))
        wire.head()
    eventually(path.exists, 10)


def test_a_client_that_does_not_read_stops_the_generator(connect, tmp_path):
    path = tmp_path / "counted"
    with connect() as wire:
        wire.sock.sendall(wire.request("endless", {"path": str(path)}))
        wire.head()
        sizes = []

        def stands_still():
            sizes.append((time.monotonic(), path.stat().st_size))
            return sizes[-1][0] - next(at for at, size in sizes if size == sizes[-1][1]) > 0.5

        eventually(stands_still)
        # What the sockets' buffers hold, and a window of 256 KiB; reading makes it go on.
        assert sizes[-1][1] * 10_000 < 10 * 2**20
        for _ in range(1000):
            wire.sock.recv(65536)
        eventually(lambda: path.stat().st_size > sizes[-1][1])


def test_what_is_no_http_is_refused(connect):
    with connect() as wire:
        wire.sock.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert wire.head()[0] == 400


def test_a_trailer_never_becomes_a_header(connect):
    with connect() as wire:
        request = wire.request("double", {}, body=b"", headers=["Transfer-Encoding: chunked"])
        request = request.replace(b"Content-Length: 0\r\n", b"")
        key = next(line for line in request.split(b"\r\n") if line.startswith(b"Authorization"))
        request = request.replace(key + b"\r\n", b"")
        wire.sock.sendall(request + b'12\r\n{"args": {"x": 4}}\r\n0\r\n' + key + b"\r\n\r\n")
        assert wire.answer()[0] == 401


def test_endless_trailers_end_the_connection(connect):
    with connect() as wire:
        request = wire.request("double", {}, body=b"", headers=["Transfer-Encoding: chunked"])
        wire.sock.sendall(request.replace(b"Content-Length: 0\r\n", b"") + b"0\r\n")
        trailers = (b"X: " + b"y" * 1000 + b"\r\n") * 10_000  # of which the kernel may take the first ones
        with pytest.raises(ConnectionError):
            all(wire.sock.sendall(trailers) is None for _ in range(20))


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "anything"])
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_the_body_behind_an_upgrade_stays_a_body(connect, protocol, cut):
    with connect() as wire:
        inside = wire.result_of("x")  # a request, had it a chance to be read as one
        headers = ["Connection: Upgrade", f"Upgrade: {protocol}"]
        request = wire.request("double", {}, body=inside, headers=headers)
        at = len(request) - len(inside) + cut
        wire.sock.sendall(request[:at])
        wire.sock.sendall(request[at:] + wire.request("double", {"x": 1}, headers=headers))
        assert wire.answer()[0] == 400
        assert wire.value() == 2


@pytest.mark.parametrize("behind", ["garbage", "half a request", "a request"])
def test_what_is_sent_behind_a_stream_harms_no_stream(connect, tmp_path, behind):
    """An error in what one client pipelines was raised in the link of the worker, which ended all that ran there."""
    path = tmp_path / "ended"
    with connect() as other, connect() as wire:
        other.sock.sendall(other.request("wait-until-cancelled", {"path": str(tmp_path / "other")}))
        other.head()
        chunked = wire.request("double", {}, body=b"", headers=["Transfer-Encoding: chunked"])
        sent = {
            "garbage": chunked.replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n",
            "half a request": wire.request("double", {"x": 1})[:-5],
            "a request": wire.request("double", {"x": 1}),
        }[behind]
        wire.sock.sendall(wire.request("wait-until-cancelled", {"path": str(path)}))
        wire.head()
        wire.sock.sendall(sent)
        for stream in (wire, other):
            for _ in range(50):
                assert b"HTTP/1.1" not in stream._file.readline()
        wire.sock.shutdown(socket.SHUT_RDWR)
        wire.sock.close()
        eventually(path.exists, 10)  # that its client has gone is seen, whatever it had pipelined
        for _ in range(50):
            assert b"FAILURE" not in other._file.readline()


def test_a_slow_reader_of_a_stream_may_pipeline(connect, tmp_path):
    with connect() as wire:
        wire.sock.sendall(wire.request("count", {"n": 100_000}) + wire.request("double", {"x": 8}))
        wire.head()
        time.sleep(0.5)  # the server's buffers fill, and the stream pauses
        while wire._file.readline() != b"0\r\n":
            pass
        wire._file.readline()
        assert wire.value() == 16


@pytest.mark.parametrize("name", ["double", "count"])
def test_a_client_may_close_its_side_before_the_answer(connect, name):
    with connect() as wire:
        wire.sock.sendall(wire.request(name, {"x": 3} if name == "double" else {"n": 3}))
        wire.sock.shutdown(socket.SHUT_WR)
        answer = wire.rest()
        assert b'"6"' in answer if name == "double" else answer.count(b"SUCCESS") == 3


def test_pipelined_requests_that_wait_for_their_body_are_asked_for_it(connect):
    with connect() as wire:
        head, _, body = wire.request("double", {"x": 5}, headers=["Expect: 100-continue"]).partition(
            b"\r\n\r\n"
        )
        wire.sock.sendall(wire.request("double", {"x": 4}) + head + b"\r\n\r\n")
        assert wire.value() == 8
        assert wire.head()[0] == 100
        wire.sock.sendall(body)
        assert wire.value() == 10


def test_requests_without_one_host_are_refused(connect):
    for hosts in (b"", b"Host: x\r\nHost: y\r\n"):
        with connect() as wire:
            wire.sock.sendall(b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n")
            assert wire.answer()[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/sync-tasks", "POST"),
        ("HEAD", "/v1/sync-tasks?model_endpoint_id=x", "POST"),
        ("PUT", "/v1/streaming-tasks", "DELETE, POST"),
        ("PATCH", "/v1/async-tasks", "GET, HEAD, POST"),
        ("POST", "/v1/async-tasks/x", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405_with_those_it_takes(connect, method, path, allowed):
    with connect() as wire:
        wire.sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status, headers = wire.head()
        assert (status, headers["allow"]) == (405, allowed)
        assert (wire.rest() == b"") == (method == "HEAD")


def test_a_method_that_no_path_takes_is_501(connect):
    with connect() as wire:
        wire.sock.sendall(b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.head()[0] == 501
        assert b"GET" in wire.rest()


def test_head_is_answered_like_get_without_a_body(connect):
    with connect() as wire:
        wire.sock.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        for _ in range(2):
            status, headers = wire.head()
            assert (status, headers["content-type"]) == (200, "application/json")
            assert int(headers["content-length"]) > 0


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Post {
    public static void main(String[] given) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(given[0])).header("Authorization", "Bearer " + given[1])
            .POST(HttpRequest.BodyPublishers.ofString("{\\"args\\": {\\"x\\": 21}}")).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
def test_javas_client_which_offers_an_upgrade_with_its_first_request(client, tmp_path):
    (tmp_path / "Post.java").write_text(JAVA)
    endpoint = client.get_model_endpoint("double").model_endpoint
    url = f"{client.server.url}/v1/sync-tasks?model_endpoint_id={endpoint.id}"
    command = ["java", str(tmp_path / "Post.java"), url, client.server.api_key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("200 "), done
    assert '"42"' in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_with_h2c(client):
    endpoint = client.get_model_endpoint("double").model_endpoint
    url = f"{client.server.url}/v1/sync-tasks?model_endpoint_id={endpoint.id}"
    given = [
        "--http2",
        "-s",
        "-H",
        f"Authorization: Bearer {client.server.api_key}",
        "-d",
        '{"args": {"x": 21}}',
    ]
    done = subprocess.run(["curl", *given, url], capture_output=True, text=True, timeout=30)
    assert '"42"' in done.stdout, done
