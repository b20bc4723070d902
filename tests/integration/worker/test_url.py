"""Input that is named by `url`."""

import base64
import socket
import time

import pytest
from worker_driver import Worker, returning, wait_until

from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import Refusal
from openlaunch_worker.fetch import Transfer
from openlaunch_worker.frames import Kind, Outcome


def limits(timeout=5.0, max_bytes=1000, allow_private=True):
    return Limits(1, 1000, max_bytes, timeout, allow_private)


def refusal(url, timeout=5.0, max_bytes=1000, allow_private=True):
    with pytest.raises(Refusal) as caught:
        Transfer(url).fetch(limits(timeout, max_bytes, allow_private))
    assert caught.value.status_code == 400
    return str(caught.value)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_predict_is_called_with_the_bytes(server, kind):
    def predict(data):
        return [type(data).__name__, len(data)]

    async def async_predict(data):
        return predict(data)

    with Worker(returning(predict if kind == "plain" else async_predict)) as worker:
        worker.ready()
        answer = worker.call({"url": f"{server}/bytes?5"})
        assert answer["result"] == {"result": '["bytes", 5]'}


def test_what_can_not_be_fetched_is_a_failure(server):
    with Worker(returning(lambda data: 1)) as worker:
        worker.ready()
        answer = worker.call({"url": f"{server}/missing?secret"})
        assert answer["status_code"] == 400
        reason = f"the input could not be fetched from {server}/missing: the server answered 404 Not Found"
        assert answer["traceback"] == reason


def test_an_async_function_is_cancelled_while_its_input_is_fetched(server):
    async def predict(data): ...

    with Worker(returning(predict), per_worker=1) as worker:
        worker.ready()
        request_id = worker.request({"url": f"{server}/drip"})
        wait_until(lambda: worker.process.poll() is None)
        worker.send(Kind.CANCEL, request_id)
        start = time.monotonic()
        assert worker.answer()[:2] == (request_id, Outcome.CANCELLED)
        assert time.monotonic() - start < 3


def test_a_deadline_ends_the_fetching(server):
    with Worker(returning(lambda data: 1)) as worker:
        worker.ready()
        start = time.monotonic()
        assert worker.call({"url": f"{server}/drip"}, deadline=0.2)["status_code"] == 504
        assert time.monotonic() - start < 3


def test_bytes_at_the_limit_are_taken(server):
    assert Transfer(f"{server}/bytes?1000").fetch(limits()) == b"x" * 1000


def test_announced_bytes_over_the_limit_are_refused(server):
    assert "larger than the limit of 1000 bytes" in refusal(f"{server}/bytes?1001")


def test_bytes_without_end_are_refused(server):
    assert "larger than the limit of 1000 bytes" in refusal(f"{server}/endless")


def test_bytes_that_break_off_are_refused(server):
    assert "broke 90 bytes before the end" in refusal(f"{server}/short")


@pytest.mark.parametrize("path", ["drip", "drip_headers"])
def test_the_time_is_bounded_as_a_whole(server, path):
    start = time.monotonic()
    assert "took longer than 0.3 seconds" in refusal(f"{server}/{path}", timeout=0.3, max_bytes=10**6)
    assert time.monotonic() - start < 3


def test_a_redirect_is_followed(server):
    assert Transfer(f"{server}/redirect?/bytes?7").fetch(limits()) == b"x" * 7


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/caf\u00e9 \u2603/echo?q=\u00fc&r=%20#x", "/caf%C3%A9%20%E2%98%83/echo?q=%C3%BC&r=%20"),
        ("/a%20b;c=(1,2)/echo?x=1/2:3@4", "/a%20b;c=(1,2)/echo?x=1/2:3@4"),
    ],
)
def test_letters_that_a_url_can_not_have_are_escaped(server, path, asked):
    assert Transfer(f" {server}{path}\n").fetch(limits()).decode() == f"{asked} None"


def test_a_redirect_with_such_letters_is_followed(server):
    assert Transfer(f"{server}/redirect?/caf\u00e9/echo").fetch(limits()) == b"/caf%C3%A9/echo None"


def test_user_and_password_go_to_the_host_that_they_are_for(server):
    basic = base64.b64encode("us:er:pä@s".encode()).decode()
    with_login = server.replace("//", "//us%3Aer:p%C3%A4%40s@")
    assert Transfer(f"{with_login}/echo").fetch(limits()).decode() == f"/echo Basic {basic}"
    assert Transfer(f"{with_login}/redirect?/echo").fetch(limits()) == b"/echo None"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(server, location):
    assert "could not be fetched" in refusal(f"{server}/redirect?{location}")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "nonsense", "", "http://["]
)
def test_other_schemes_and_nonsense_are_refused(url):
    refusal(url)


def test_secrets_in_the_url_are_not_repeated():
    text = refusal("http://user:password@127.0.0.1:1/path?signature=abc#def")
    assert "from http://127.0.0.1:1/path:" in text
    for secret in ("user", "password", "abc", "def"):
        assert secret not in text


def test_a_private_address_is_refused_where_the_server_does_not_allow_it(server):
    assert "private address" in refusal(f"{server}/bytes?7", allow_private=False)
    name = server.replace("127.0.0.1", "localhost")
    assert "private address" in refusal(f"{name}/bytes?7", allow_private=False)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.%31", "%3127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "LOCALHOST", "\u2460\u2461\u2466.0.0.1"),
    ],
)
def test_no_spelling_of_a_private_address_gets_around_the_rule(server, host):
    port = server.rpartition(":")[2]
    # macOS and some resolvers know fewer spellings; none may be connected to.
    assert "larger" not in refusal(f"http://{host}:{port}/bytes?2000", allow_private=False)


def test_a_proxy_of_the_environment_is_asked_and_no_other(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "")
    assert Transfer("http://192.0.2.1/bytes?7").fetch(limits(allow_private=False)) == b"x" * 7


def test_a_network_of_no_proxy_is_reached_without_the_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.setenv("no_proxy", "192.0.2.0/24")
    assert "private address" in refusal("http://192.0.2.1/bytes?7", allow_private=False)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
def test_a_link_local_address_is_always_refused(server, host):
    assert "never allowed" in refusal(f"http://{host}/latest/meta-data")


def test_a_redirect_to_an_address_that_is_not_allowed_is_not_followed(server):
    assert "never allowed" in refusal(f"{server}/redirect?http://169.254.169.254/latest")


def test_a_name_that_means_another_address_a_moment_later_leads_to_the_first(server, monkeypatch):
    lookups = iter(["127.0.0.1", "169.254.169.254"])
    real = socket.getaddrinfo

    def look_up(host, *args, **options):
        return real(next(lookups) if host == "input.test" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = server.replace("127.0.0.1", "input.test") + "/bytes?7"
    assert Transfer(url).fetch(limits()) == b"x" * 7
    assert "never allowed" in refusal(url)
