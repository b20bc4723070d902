"""A client whose environment names a proxy."""

import logging
import socket

import pytest
from both_clients import FLAVOURS
from canned_server import Predicting, endpoint_document, reply

from openlaunch.client.effects import call, signed
from openlaunch.client.proxies import proxy_for
from openlaunch.errors import ConfigurationError, ConnectionFailed

REMOTE = "http://model-server.example"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def nobody():
    """The URL of a proxy at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://user:s3cret@127.0.0.1:{port}"


@pytest.fixture
def made(request):
    """Make clients, which are closed at the end."""
    clients = []

    def make(flavour, url, **options):
        clients.append(Predicting(flavour, url, **options))
        return clients[-1]

    yield make
    for both in clients:
        both.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_server_of_this_machine_is_reached_without_a_proxy(flavour, server, nobody, made, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody)
    monkeypatch.setenv("ALL_PROXY", nobody)
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    both = made(flavour, server.url)
    assert both.call(both.client.get_model_endpoint, "double").name == "double"


@pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.9", "[::1]", "0.0.0.0"])
def test_what_is_this_machine(host, nobody, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody)
    assert proxy_for(f"http://{host}:8000") is None
    assert proxy_for("http://10.0.0.1:8000") is not None


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_errors_name_the_proxy_and_its_variable(flavour, nobody, made, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody)
    both = made(flavour, REMOTE, max_retries=0)
    with pytest.raises(ConnectionFailed) as caught:
        both.call(both.client.list_model_endpoints)
    text = str(caught.value)
    assert f"through the proxy http://127.0.0.1:{nobody.rpartition(':')[2]} (from HTTP_PROXY)" in text
    assert "NO_PROXY" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_proxy_that_wants_a_password_says_so(flavour, server, made, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.routes[f"GET {REMOTE}/v1/model-endpoints"] = reply({}, 407)
    both = made(flavour, REMOTE, max_retries=0)
    with pytest.raises(ConnectionFailed, match="the proxy asks for a user name and a password"):
        both.call(both.client.list_model_endpoints)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_log_has_the_url_of_a_download(flavour, server, made, monkeypatch, caplog):
    monkeypatch.setenv("http_proxy", server.url)
    server.routes[f"GET {REMOTE}/v1/artifacts/r"] = lambda request: (200, {}, b"bytes")
    both = made(flavour, REMOTE)
    with caplog.at_level(logging.DEBUG):
        answer = both.call(lambda: both.client.run(call(signed("GET", "/v1/artifacts/r?signature=s3cret"))))
    assert answer.body == b"bytes"
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://127.0.0.1:1080", r"socks5://127.0.0.1:1080 \(from ALL_PROXY\) speaks SOCKS"),
        ("ftp://proxy:21", r"ftp://proxy:21 \(from ALL_PROXY\) is not one such as"),
        ("http://[::1", "ALL_PROXY is not a URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(value, message, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ConfigurationError, match=message) as caught:
        proxy_for(REMOTE)
    assert "NO_PROXY" in str(caught.value)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_cannot_be_used_is_named(flavour, content, tmp_path, made, monkeypatch):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    both = made(flavour, "https://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=rf"{path}' \(from SSL_CERT_FILE") as caught:
        both.call(both.client.list_model_endpoints)
    assert "can't be used" in str(caught.value)


def test_a_folder_of_certificates_that_is_not_there_is_named(made, monkeypatch):
    monkeypatch.setenv("SSL_CERT_DIR", "/no/such/folder")
    both = made("blocking", "https://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=r"'/no/such/folder' \(from SSL_CERT_DIR\) can't be used"):
        both.call(both.client.list_model_endpoints)


@pytest.mark.parametrize(
    ("named", "url", "is_used"),
    [
        ("192.0.2.0/24", "http://192.0.2.7:8000", False),
        ("10.0.0.0/8, 192.0.2.7", "http://192.0.2.7:8000", False),
        ("192.0.2.0/24", "http://198.51.100.1:8000", True),
        ("192.0.2.0/24", "http://models.example.org", True),
        ("2001:db8::1", "http://[2001:db8::1]:8000", False),
        ("[2001:db8::]/32, no network/at all", "http://[2001:db8::2]", True),
        ("2001:db8::/32", "http://[2001:db8::2]", False),
        ("", "http://192.0.2.7:8000", True),
    ],
)
def test_no_proxy_may_name_networks(named, url, is_used, nobody, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", nobody)
    monkeypatch.setenv("NO_PROXY", named)
    assert (proxy_for(url) is not None) == is_used


def test_spaces_around_the_url_of_a_proxy_are_left_out(nobody, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f" {nobody} ")
    assert proxy_for(REMOTE).url == nobody
