"""What is a bucket's own in the artifacts: how a start goes wrong, what is told of it, and what is not."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from s3_server import S3Server
from started_artifacts import started
from tcp_proxy import Proxy, proxy_to

from openlaunch.artifacts import bucket as bucket_module
from openlaunch.artifacts.bucket import BucketArtifacts
from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.artifacts.objects import ObjectArtifacts
from openlaunch.errors import ConfigurationError, NotFound, Unavailable
from openlaunch.server.operations.health import Health
from openlaunch.server.operations.migration import copy_artifacts
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.health import CheckStatus

SECRET = "s3cret-0123456789"


@pytest.fixture
def environ(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a server that can use the bucket, for tests to change."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal(url: str = "s3://artifacts/start") -> str:
    with pytest.raises(ConfigurationError) as refused:
        started(url)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    return str(refused.value)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that gives the same answer to everything; without one, it never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_ones = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    open_ones.append(connection)
                    connection.recv(65536)
                    if answer:
                        connection.sendall(answer)
                        connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in open_ones:
                connection.close()


def xml(status: str, code: str, more: str = "") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message>{more}</Error>"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def test_a_prefix_is_one_servers(environ: pytest.MonkeyPatch) -> None:
    started("s3://artifacts/marked")
    started("s3://artifacts/marked/")
    with pytest.raises(
        ConfigurationError, match=r"they are another server.s.*delete the object openlaunch-server"
    ):
        started("s3://artifacts/marked", "them")
    started("s3://artifacts/marked-too", "them")


def test_servers_of_a_cluster_start_at_the_same_time(environ: pytest.MonkeyPatch) -> None:
    async def start_all() -> None:
        servers = [BucketArtifacts("s3://artifacts/together") for _ in range(8)]
        await asyncio.gather(*(server.start("us") for server in servers))

    asyncio.run(start_all())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_ACCESS_KEY_ID", SECRET, r"credentials are not valid there.*\(InvalidAccessKeyId\)"),
        ("AWS_SECRET_ACCESS_KEY", SECRET, r"credentials are not valid there.*\(SignatureDoesNotMatch\)"),
        ("AWS_SECRET_ACCESS_KEY", None, "the credentials are not complete; set AWS_ACCESS_KEY_ID"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "it can't be reached; look at the endpoint"),
        ("AWS_ENDPOINT_URL", f"http://u:{SECRET}@example.com", "spoken to without TLS.*AWS_ALLOW_HTTP=true"),
    ],
)
def test_a_wrong_environment(environ: pytest.MonkeyPatch, name: str, value: str | None, said: str) -> None:
    if value is None:
        environ.delenv(name)
    else:
        environ.setenv(name, value)
    assert re.search(said, text := refusal()), text


def test_no_such_bucket(environ: pytest.MonkeyPatch) -> None:
    assert "there is no such bucket; make it, or name another" in refusal("s3://nowhere/start")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (xml("403 Forbidden", "AccessDenied"), "access is denied; the credentials need the rights to write"),
        (xml("400 Bad Request", "ExpiredToken"), "the credentials have expired"),
        (
            xml("400 Bad Request", "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            r"in another region; set AWS_REGION to it \(eu-west-1\)",
        ),
        (xml("301 Moved Permanently", "PermanentRedirect"), "in another region; set AWS_REGION"),
        (xml("503 Slow Down", "SlowDown"), r"too much to do.*\(SlowDown\)"),
        (xml("500 Internal Server Error", "InternalError"), "the service fails"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", "not such a service"),
        (b"", "no answer within 0.5 s"),
    ],
    ids=["denied", "expired", "region", "redirect", "slow down", "fails", "no service", "silent"],
)
def test_a_start_with_a_service_that_refuses(
    environ: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: bytes, said: str
) -> None:
    environ.setattr(bucket_module, "START_SECONDS", 0.5 if not answer else 30.0)
    with answering(answer) as url, caplog.at_level(logging.DEBUG):
        environ.setenv("AWS_ENDPOINT_URL", url)
        assert re.search(said, text := refusal()), text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (xml("403 Forbidden", "AccessDenied"), "access is denied; the credentials need the rights"),
        (xml("404 Not Found", "NoSuchBucket"), "there is no such bucket; make it"),
        (None, "it can't be reached|no answer within 2 s"),
    ],
    ids=["denied", "no such bucket", "gone"],
)
def test_what_has_become_of_a_bucket_is_told_while_the_server_runs(
    environ: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path, answer: bytes | None, said: str
) -> None:
    async def test(proxy: Proxy, url: str) -> None:
        artifacts = BucketArtifacts("s3://artifacts/ready")
        await artifacts.start("us")
        store = await SqliteStore.open(tmp_path / "x.db")
        health = Health(store, artifacts, tmp_path)
        health.start()
        try:
            proxy.lead_to(url)
            proxy.cut()
            report = await health.report()
        finally:
            await health.stop()
            await store.close()
        check = next(check for check in report.checks if check.name == "artifacts")
        assert (check.status, SECRET in str(check.detail)) == (CheckStatus.WARNING, False)
        assert re.search(said, check.detail or ""), check.detail

    with (
        proxy_to(s3.endpoint) as proxy,
        answering(answer) if answer else contextlib.nullcontext("http://127.0.0.1:1") as url,
    ):
        environ.setenv("AWS_ENDPOINT_URL", proxy.url)
        asyncio.run(test(proxy, url))


@pytest.mark.parametrize(
    "url",
    ["", "/folder", "s3://", "s3://B", "http://artifacts/a", f"s3://key:{SECRET}@artifacts/a", "s3://artifacts/a?x=1",
     "s3://artifacts/../a", "s3://artifacts//a", f"{SECRET} "],
)  # fmt: skip
def test_a_url_that_is_none(url: str) -> None:
    text = refusal(url)
    assert "give s3://BUCKET/PREFIX" in text


def test_a_bucket_that_is_gone_is_not_a_key_that_is_missing(environ: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        gone = BucketArtifacts("s3://nowhere/start")
        for use in (gone.get("k"), gone.size("k"), gone.put("k", b"1"), anext(gone.stream("k"))):
            with pytest.raises(Unavailable, match="there is no such bucket"):
                await use
        there = BucketArtifacts("s3://artifacts/start")
        with pytest.raises(NotFound):
            await there.size("k")

    asyncio.run(test())


def test_other_services_are_named_by_their_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert "az" in BucketArtifacts("az://container/prefix").url
    assert "gs" in BucketArtifacts("gs://bucket/prefix").url
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    assert "not complete" in refusal("az://container/prefix")


SERVICE_ACCOUNT = {"client_email": "a@b", "private_key": f"-----BEGIN {SECRET}", "private_key_id": "k"}


@pytest.mark.parametrize(
    ("url", "environ", "said"),
    [
        ("gs://bucket/a", {"GOOGLE_SERVICE_ACCOUNT": None}, "can't be read that GOOGLE_APPLICATION_CRED"),
        (
            "gs://bucket/a",
            {"GOOGLE_APPLICATION_CREDENTIALS": None},
            "can't be read that GOOGLE_APPLICATION_CRED",
        ),
        (
            "gs://bucket/a",
            {"GOOGLE_SERVICE_ACCOUNT": SECRET},
            "not have the credentials of a service account",
        ),
        (
            "gs://bucket/a",
            {"GOOGLE_APPLICATION_CREDENTIALS": "{}"},
            "not have the credentials of a service acc",
        ),
        (
            "gs://bucket/a",
            {"GOOGLE_SERVICE_ACCOUNT": json.dumps(SERVICE_ACCOUNT)},
            "not have the credentials of",
        ),
        (
            "az://bucket/a",
            {"AZURE_STORAGE_ACCOUNT_KEY": f"{SECRET} !"},
            "the credentials are not valid there",
        ),
        ("az://bucket/a", {"AZURE_STORAGE_ENDPOINT": "no url"}, "the endpoint is not a URL"),
    ],
)
def test_credentials_that_are_none_are_told_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, environ: dict[str, str | None], said: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    for name, value in environ.items():
        if name.startswith("GOOGLE"):
            file = tmp_path / f"{SECRET}.json"
            if value is not None:
                file.write_text(value)
            value = str(file)
        monkeypatch.setenv(name, str(value))
    assert said in (text := refusal(url)), text


class Forgetful(ObjectArtifacts):
    """Gives back other bytes than it was given."""

    async def put(self, key: str, data: bytes | memoryview | AsyncIterator[bytes]) -> int:
        await super().put(key, data)
        return await super().put(key, b"other")


def test_artifacts_are_copied_into_a_bucket_and_back(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = bytes(range(256)) * (12 << 12)

    async def test() -> None:
        folder, bucket = FolderArtifacts(tmp_path / "a"), BucketArtifacts("s3://artifacts/copied")
        for number in range(20):
            await folder.put(f"bundles/6f/{number}", b"%d" % number)
        await folder.put("results/large.pkl", large)
        await bucket.put("bundles/6f/3", b"x")  # of the same size
        copied = await copy_artifacts(folder, bucket)
        assert (copied.count, copied.copied) == (21, 21)
        assert copied.bytes == len(large) + 10 + 20
        assert await bucket.get("bundles/6f/3") == b"3"
        assert (await copy_artifacts(folder, bucket)).copied == 0
        back = FolderArtifacts(tmp_path / "b")
        assert (await copy_artifacts(bucket, back)).copied == 21
        assert await back.get("results/large.pkl") == large
        with pytest.raises(ConfigurationError, match="is not the same after it was copied"):
            await copy_artifacts(back, Forgetful(MemoryStore()))

    asyncio.run(test())


def test_a_stream_is_resumed_where_its_connection_was_cut(environ: pytest.MonkeyPatch, s3: S3Server) -> None:
    large = bytes(range(256)) * (12 << 12)

    async def test(endpoint: str) -> None:
        await BucketArtifacts("s3://artifacts/cut").put("k", large)
        environ.setenv("AWS_ENDPOINT_URL", endpoint)
        pieces = [piece async for piece in BucketArtifacts("s3://artifacts/cut").stream("k")]
        assert b"".join(pieces) == large

    with proxy_to(s3.endpoint) as proxy:
        proxy.cut_after = 2 << 20
        asyncio.run(test(proxy.url))
        assert proxy.connections > 4
