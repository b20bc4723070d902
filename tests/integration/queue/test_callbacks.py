"""Callbacks from a real server to real receivers: signed, tried again, authenticated, guarded."""

import base64
import hashlib
import hmac
import http.server
import json
import re
import secrets
import socket
import ssl
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme
from http_service import http_service
from server_driver import SMALL, args, eventually, running
from server_driver import http as plain_http

from openlaunch import EndpointRequest, File
from openlaunch.errors import Conflict, NotFound, Unprocessable

LINK_LOCAL = "http://169.254.169.254/latest/meta-data"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path.startswith("/done/") and self.path != self.server.path:
            self.send_error(410)  # for a receiver that had this port before; its server tries again for hours
            return
        self.server.received.append((self.path, headers, body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiving(port=0, tls=None, answers=(), path=None):
    """A receiver that gives these answers, and then takes everything."""
    with http_service(Handler, port) as server:
        server.received, server.answers = [], list(answers)
        server.path = path or f"/done/{secrets.token_hex(4)}"
        server.handle_error = lambda *_: None
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}{server.path}"
        yield server


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def client(authority, tmp_path_factory):
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with running(callback_ca_file=ca_file, callback_timeout_seconds=3, queue_old_seconds=1) as client:
        yield client


def half(x):
    time.sleep(0.2 if x == 0.5 else 0)
    return x / 2


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(half, name="ca-half", endpoint_type="async", **SMALL)


def ask(endpoint, receiver_url, x=8, **auth):
    return endpoint.predict(EndpointRequest(args={"x": x}, callback_url=receiver_url, **auth))


def only(receiver):
    received = eventually(lambda: receiver.received)
    assert len(received) == 1, [(path, headers) for path, headers, _ in received]
    return received[0]


def delivered(client, future, status="DELIVERED"):
    def look():
        (delivery,) = client.list_deliveries(future.async_task_id)
        return delivery if delivery.status == status else None

    return eventually(look)


def assert_signed(client, headers, body):
    secret = base64.b64decode(client.get_callback_secret().removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60


def test_a_result_is_posted_and_signed(client, endpoint):
    with receiving() as receiver:
        future = ask(endpoint, receiver.url)
        _, headers, body = only(receiver)
    document = json.loads(body)
    assert document["task_id"] == future.async_task_id
    assert document["result"] == {"result": "4.0"}
    assert document["status"] == "SUCCESS"
    assert_signed(client, headers, body)
    (attempt,) = delivered(client, future).attempts
    assert attempt.status_code == 204


def test_a_failure_is_posted_too(client, endpoint):
    with receiving() as receiver:
        ask(endpoint, receiver.url, x="no number")
        document = json.loads(only(receiver)[2])
    assert document["status"] == "FAILURE"
    assert "TypeError" in document["traceback"]


def test_basic_auth_is_sent(endpoint):
    with receiving() as receiver:
        ask(
            endpoint,
            receiver.url,
            callback_auth_kind="basic",
            callback_auth_username="ada",
            callback_auth_password="secret",
        )
        headers = only(receiver)[1]
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"ada:secret"


def test_a_client_certificate_is_shown_to_a_server_that_asks_for_it(client, endpoint, authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("ada@example.org")
    with receiving(tls=tls) as receiver:
        ask(
            endpoint,
            receiver.url,
            callback_auth_kind="mtls",
            callback_auth_cert="".join(pem.bytes().decode() for pem in mine.cert_chain_pems),
            callback_auth_key=mine.private_key_pem.bytes().decode(),
        )
        assert json.loads(only(receiver)[2])["status"] == "SUCCESS"
        without = ask(endpoint, receiver.url)
        (attempt, *_) = eventually(lambda: client.list_deliveries(without.async_task_id)[0].attempts)
        assert attempt.error
        assert len(receiver.received) == 1


def test_the_endpoints_callback_is_used_unless_the_request_has_its_own(client):
    with receiving() as default, receiving() as own:
        endpoint = client.deploy(
            half,
            name="ca-default",
            endpoint_type="async",
            post_inference_hooks=["callback"],
            default_callback_url=default.url,
            default_callback_auth_kind="basic",
            default_callback_auth_username="ada",
            default_callback_auth_password="hush-hush",
            **SMALL,
        )
        endpoint.predict(args(x=2))
        assert "authorization" in only(default)[1]
        ask(endpoint, own.url)
        assert "authorization" not in only(own)[1]
        assert len(default.received) == 1
        described = endpoint.refresh().model_endpoint
        assert described.default_callback_auth.username == "ada"
        assert "hush-hush" not in described.model_dump_json()


def test_a_receiver_that_fails_is_asked_again_after_a_restart(tmp_path):
    with receiving() as first:
        port, path = first.server_port, first.path
    with running(tmp_path) as client:
        endpoint = client.deploy(half, name="ca-again", endpoint_type="async", **SMALL)
        future = ask(endpoint, first.url)
        (delivery,) = eventually(
            lambda: [d for d in client.list_deliveries(future.async_task_id) if d.attempts]
        )
        assert delivery.status == "PENDING"
        assert delivery.next_at is not None
    with receiving(port, path=path) as receiver, running(tmp_path) as client:
        assert only(receiver)[1]["webhook-id"] == delivery.id
        assert len(delivered(client, future).attempts) == 2


def test_an_answer_that_is_no_success_is_an_attempt_that_failed(client, endpoint):
    with receiving(answers=[500]) as receiver:
        future = ask(endpoint, receiver.url)
        (attempt,) = delivered(client, future, "PENDING").attempts or eventually(
            lambda: client.list_deliveries(future.async_task_id)[0].attempts
        )
    assert (attempt.status_code, attempt.error) == (500, "the receiver answered 500")


def test_a_redirect_is_not_followed(client, endpoint):
    with receiving(answers=[302]) as receiver:
        future = ask(endpoint, receiver.url)
        eventually(lambda: client.list_deliveries(future.async_task_id)[0].attempts)
        assert [path for path, _, _ in receiver.received] == [receiver.path]


def test_a_receiver_that_hangs_holds_up_nothing(client, endpoint):
    with socket.create_server(("127.0.0.1", 0)) as silent, receiving() as receiver:
        hanging = ask(endpoint, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        delivered(client, ask(endpoint, receiver.url))
        (attempt,) = eventually(lambda: client.list_deliveries(hanging.async_task_id)[0].attempts)
    assert (attempt.status_code, attempt.error) == (None, "there was no answer within 3 s")
    assert client.list_deliveries(hanging.async_task_id)[0].status == "PENDING"


def xs(mib):
    return "x" * (mib * 2**20)


def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_results_that_wait_for_slow_receivers_are_not_held_in_memory():
    with running(callback_timeout_seconds=300) as client, ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent.settimeout(60)
        endpoint = client.deploy(xs, name="ca-large", endpoint_type="async", **{**SMALL, "memory": "1Gi"})
        with receiving() as receiver:
            endpoint.predict(EndpointRequest(args={"mib": 40}, callback_url=receiver.url))
            assert len(only(receiver)[2]) > 40 * 2**20
        before = resident_mib(client.server.pid)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for _ in range(4):
            endpoint.predict(EndpointRequest(args={"mib": 40}, callback_url=url))
        for _ in range(4):
            assert stack.enter_context(silent.accept()[0]).recv(1) == b"P"
        assert resident_mib(client.server.pid) - before < 80


def test_a_receiver_that_is_gone_ends_it(client, endpoint):
    with receiving(answers=[410]) as receiver:
        future = ask(endpoint, receiver.url)
        delivered(client, future, "FAILED")


def test_a_callback_can_be_sent_once_more(client, endpoint):
    with receiving() as receiver:
        future = ask(endpoint, receiver.url)
        first = only(receiver)
        delivered(client, future)
        client.resend_callback(future.async_task_id)
        eventually(lambda: len(receiver.received) == 2)
        assert receiver.received[1][1]["webhook-id"] == first[1]["webhook-id"]


def test_a_task_that_has_not_ended_has_nothing_to_send(client, endpoint):
    with receiving() as receiver:
        future = ask(endpoint, receiver.url, x=0.5)
        with pytest.raises(Conflict, match="no result to send yet"):
            client.resend_callback(future.async_task_id)
        only(receiver)


def test_an_endpoint_whose_callbacks_fail_says_so_until_they_are_taken(client):
    endpoint = client.deploy(half, name="unheard", endpoint_type="async", **SMALL)

    def troubles():
        (found,) = [each for each in client.list_metrics() if each.name == "unheard"]
        return [each.kind for each in found.troubles]

    with receiving(answers=[503] * 3) as receiver:
        for _ in range(3):
            ask(endpoint, receiver.url)
        assert eventually(troubles) == ["callbacks_fail"]
        (event,) = eventually(
            lambda: [e for e in client.list_endpoint_events("unheard").events if e.kind == "callbacks_fail"]
        )
        assert event.message == "callbacks began to fail: 127.0.0.1: the receiver answered 503"
        assert client.explain_endpoint("unheard").troubles[0].message == event.message
        ask(endpoint, receiver.url)
        eventually(lambda: not troubles())


def test_a_task_without_a_callback_has_no_deliveries(client, endpoint):
    future = endpoint.predict(args(x=1))
    assert client.list_deliveries(future.async_task_id) == []
    with pytest.raises(NotFound):
        client.resend_callback(future.async_task_id)
    with pytest.raises(NotFound):
        client.list_deliveries("nothing")


def test_a_link_local_receiver_is_never_called(client, endpoint):
    future = ask(endpoint, LINK_LOCAL)
    (attempt,) = eventually(lambda: client.list_deliveries(future.async_task_id)[0].attempts)
    assert "never allowed" in attempt.error


def test_a_private_receiver_is_not_called_where_the_setting_says_so():
    with running(private_addresses="false") as client, receiving() as receiver:
        endpoint = client.deploy(half, name="ca-private", endpoint_type="async", **SMALL)
        future = ask(endpoint, receiver.url.replace("127.0.0.1", "localhost"))
        (attempt,) = eventually(lambda: client.list_deliveries(future.async_task_id)[0].attempts)
        assert "private address" in attempt.error
        assert receiver.received == []


def test_a_request_that_is_answered_at_once_has_no_callback(client):
    endpoint = client.deploy(half, name="ca-sync", **SMALL).model_endpoint
    with plain_http(client) as raw:
        response = raw.post(
            "/v1/sync-tasks",
            params={"model_endpoint_id": endpoint.id},
            json={"args": {"x": 1}, "callback_url": "http://127.0.0.1/"},
        )
    assert response.status_code == 422
    assert "async endpoints" in response.text


@pytest.fixture
def subscribe(client):
    """Makes subscriptions that the test's end deletes."""
    made = []
    yield lambda *given: made.append(client.create_subscription(*given)) or made[-1]
    for each in made:
        client.delete_subscription(each.id)


def notified(receiver, kind):
    """What the first notification of this kind says, once it has come."""

    def found():
        bodies = [json.loads(body) for _, _, body in list(receiver.received)]
        return next((body for body in bodies if body["type"] == kind), None)

    return eventually(found)


def broken_load():
    raise RuntimeError("no weights")


def test_an_owner_is_notified_of_an_endpoint_that_fails_and_recovers_signed_as_callbacks_are(
    client, subscribe
):
    with receiving() as receiver, receiving() as other:
        subscribe(receiver.url)
        subscribe(other.url, ["batch_job_ended"])
        client.deploy(half, name="nt-broken", load_model_fn=broken_load, wait=False, **SMALL)
        failed = notified(receiver, "endpoint_failed")
        assert failed["data"]["endpoint"] == "nt-broken"
        assert "no weights" in failed["data"]["detail"]
        assert failed["data"]["owner"] == "admin"
        _, headers, body = receiver.received[0]
        assert_signed(client, headers, body)
        client.deploy(half, name="nt-broken", **SMALL)
        assert notified(receiver, "endpoint_recovered")["data"]["endpoint"] == "nt-broken"
        assert other.received == []
        assert [each.url for each in client.list_subscriptions()] == [receiver.url, other.url]


@pytest.mark.slow
def test_an_owner_is_notified_of_tasks_that_wait_for_long_and_of_a_batch_job_that_ended(client, subscribe):
    with receiving() as receiver:
        subscribe(receiver.url)
        waits = client.deploy(half, name="nt-waits", endpoint_type="async", **SMALL)
        client.edit_model_endpoint(model_endpoint="nt-waits", min_workers=0, max_workers=0)
        task = waits.predict(args(x=1))
        assert notified(receiver, "queue_old")["data"]["endpoint"] == "nt-waits"
        task.cancel()
        assert notified(receiver, "queue_caught_up")["data"]["endpoint"] == "nt-waits"
        job = client.batch_async_request(
            model_bundle=waits.model_endpoint.bundle_name, inputs=[{"x": 2}], **SMALL
        )
        ended = notified(receiver, "batch_job_ended")["data"]
        assert (ended["job_id"], ended["status"]) == (job["job_id"], "SUCCESS")


def test_what_is_no_subscription_is_refused(client, subscribe):
    with pytest.raises(Unprocessable):
        client.create_subscription("ftp://receiver.example/")
    with pytest.raises(Unprocessable, match="events"):
        client.create_subscription("https://receiver.example/", ["weather"])
    made = [subscribe(f"https://receiver.example/{n}", ["queue_old"]) for n in range(20)]
    with pytest.raises(Conflict, match="20"):
        client.create_subscription("https://receiver.example/")
    assert len({each.id for each in made}) == 20
    with pytest.raises(NotFound):
        client.delete_subscription("sub_0")


def test_files_and_bytes_of_a_result_are_data_urls_in_its_callback(client):
    def shout(document: File) -> dict[str, File | bytes]:
        return {"file": File(document.read().upper(), name="a.txt"), "raw": b"\0"}

    endpoint = client.deploy(shout, name="shout-later", endpoint_type="async", **SMALL)
    with receiving() as receiver:
        given = {"document": File(b"quiet", name="quiet.txt")}
        endpoint.predict(EndpointRequest(args=given, callback_url=receiver.url))
        eventually(lambda: receiver.received)
        value = json.loads(json.loads(receiver.received[0][2])["result"]["result"])
    assert value["file"] == "data:text/plain;type=file;name=a.txt;base64,UVVJRVQ="
    assert value["raw"] == "data:application/octet-stream;type=bytes;base64,AA=="
