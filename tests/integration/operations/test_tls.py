"""HTTPS by flag: all that the server says and is asked, over TLS."""

import asyncio
import socket
import ssl
import subprocess
import sys

import httpx2
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from server_driver import SMALL, args, running

from openlaunch import EndpointRequest, LaunchClient, aio
from openlaunch.cli.exits import Exit
from openlaunch.errors import ConfigurationError, ConnectionFailed
from openlaunch.server.operations.tls import check_certificate


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    made = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    for blob in made.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    return folder


@pytest.fixture(scope="module")
def client(files):
    with running(tls_cert=files / "cert.pem", tls_key=files / "key.pem", ca_file=files / "ca.pem") as client:
        yield client


def test_the_server_says_https(client):
    assert client.url.startswith("https://127.0.0.1:")


@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
def test_every_type_of_endpoint_is_served(client, kind):
    def twice(text):
        return text + text

    def pieces(text):
        yield from text

    function = pieces if kind == "streaming" else twice
    endpoint = client.deploy(function, name=f"tls-{kind}", endpoint_type=kind, **SMALL)
    text = "x" * 100_000
    if kind == "streaming":
        with endpoint.predict(args(text="abc")) as stream:
            assert [response.value for response in stream] == ["a", "b", "c"]
    elif kind == "async":
        assert endpoint.predict(args(text=text)).get(30).value == text + text
    else:
        for _ in range(3):
            assert endpoint.predict(args(text=text)).value == text + text


def test_a_client_that_speaks_no_tls_is_asked_to(client):
    address = client.url.replace("https://", "http://")
    with (
        LaunchClient(api_key=client.server.api_key, endpoint=address) as plain,
        pytest.raises(ConnectionFailed, match="if it speaks TLS, begin the URL with https://"),
    ):
        plain.whoami()


def test_the_cookie_of_the_page_is_sent_over_tls_alone(client, files):
    with httpx2.Client(verify=ssl.create_default_context(cafile=files / "ca.pem"), timeout=60) as raw:
        answer = raw.post(
            f"{client.url}/page/sign-in",
            json={"key": client.server.api_key},
            headers={"X-Openlaunch-Page": "1"},
        )
    assert "Secure" in answer.headers["set-cookie"].split("; ")


def test_urls_that_the_server_makes_are_https(client):
    endpoint = client.deploy(lambda x: {x}, name="tls-pickled", **SMALL)
    response = endpoint.predict(EndpointRequest(args={"x": 1}, return_pickled=True))
    assert response.result_url.startswith(f"{client.url}/v1/artifacts/")
    assert response.value == {1}


def test_the_awaitable_client_takes_the_file_too(client, files):
    client.deploy(lambda x: x, name="tls-awaited", **SMALL)

    async def main():
        key = client.server.api_key
        async with aio.LaunchClient(key, client.url, ca_file=files / "ca.pem") as awaitable:
            endpoint = await awaitable.get_model_endpoint("tls-awaited")
            return (await endpoint.predict(args(x=5))).value

    assert asyncio.run(main()) == 5


def test_a_server_that_is_not_known_is_not_talked_to(client, monkeypatch):
    monkeypatch.delenv("OPENLAUNCH_CA_FILE", raising=False)
    endpoint = client.deploy(lambda x: x, name="tls-unknown", **SMALL)
    with LaunchClient(client.server.api_key, client.url, max_retries=0) as stranger:
        with pytest.raises(ConnectionFailed, match="OPENLAUNCH_CA_FILE"):
            stranger.list_model_endpoints()
        endpoint.client = stranger
        with pytest.raises(ConnectionFailed, match="OPENLAUNCH_CA_FILE"):
            endpoint.predict(args(x=1))


def test_plain_http_is_not_answered(client):
    host, port = client.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = sock.recv(100)
        except ConnectionResetError:
            answer = b""
    assert b"200" not in answer


def test_what_can_be_served_with(files):
    check_certificate(None, None)
    check_certificate(files / "cert.pem", files / "key.pem")
    check_certificate(files / "both.pem", None)


def test_what_can_not_be_served_with_is_named(tmp_path, files):
    other = trustme.CA().issue_cert("x")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    cert, key = files / "cert.pem", files / "key.pem"
    for given, message in (
        ((tmp_path / "missing.pem", None), "--tls-cert is .*missing.pem"),
        ((cert, tmp_path), "--tls-key is "),
        ((cert, tmp_path / "other.pem"), "can't be used with the key"),
        ((cert, None), "has to be in the same file"),
        ((key, cert), "can't be used"),
        ((None, key), "--tls-cert"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            check_certificate(*given)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path, files):
    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"password")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(ConfigurationError, match="the key is encrypted"):
        check_certificate(files / "cert.pem", tmp_path / "key.pem")


def test_the_command_says_it_before_it_serves(tmp_path, files):
    options = ["--port", "0", "--data-dir", str(tmp_path), "--tls-key", str(files / "key.pem")]
    command = [sys.executable, "-m", "openlaunch.cli", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == Exit.USAGE, done.stderr
    assert "its certificate is missing: --tls-cert" in done.stderr


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_has_no_certificates_is_refused_by_the_client(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        LaunchClient("key", "https://127.0.0.1:1", ca_file=path)
