"""What is Azure's own in the artifacts: signed URLs, whose container it is, what is said where it can't be used."""

import asyncio
import re

import httpx2
import pytest
from azure_server import AzureServer
from started_artifacts import started

from openlaunch.artifacts.bucket import BucketArtifacts
from openlaunch.errors import ConfigurationError

pytestmark = pytest.mark.slow

WRONG_KEY = "d3Jvbmcta2V5LW9mLWF6dXJl"


@pytest.fixture
def environ(azure: AzureServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a server that can use the container, for tests to change."""
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_prefix_is_one_servers(environ: pytest.MonkeyPatch) -> None:
    started("az://artifacts/marked")
    started("az://artifacts/marked/")
    with pytest.raises(ConfigurationError, match="they are another server's"):
        started("az://artifacts/marked", "them")


def test_a_signed_url_opens_one_key_for_reading_until_it_expires(environ: pytest.MonkeyPatch) -> None:
    async def test() -> tuple[str, str]:
        artifacts = BucketArtifacts("az://artifacts/signed")
        await artifacts.put("a", b"bytes")
        await artifacts.put("b", b"others")
        assert await artifacts.signed_url("PUT", "a", 60) is None, (
            "Azure wants a header that clients do not send"
        )
        urls = [await artifacts.signed_url("GET", "a", seconds) for seconds in (60, 0)]
        return str(urls[0]), str(urls[1])

    url, late = asyncio.run(test())
    with httpx2.Client(timeout=30) as client:
        assert client.get(url).content == b"bytes"
        for other in (late, url.replace("/a?", "/b?"), re.sub("sig=....", "sig=AAAA", url)):
            assert client.get(other).status_code == 403, other
        assert client.put(url, content=b"x", headers={"x-ms-blob-type": "BlockBlob"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AZURE_STORAGE_ACCOUNT_KEY", WRONG_KEY, r"access is denied; .*\(AuthorizationFailure\)"),
        ("AZURE_STORAGE_ACCOUNT_NAME", None, "the credentials are not complete"),
        ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/tests", "it can't be reached; look at the endpoint"),
        (
            "AZURE_STORAGE_ENDPOINT",
            "http://example.com/tests",
            "spoken to without TLS.*AZURE_ALLOW_HTTP=true",
        ),
    ],
)
def test_a_wrong_environment_is_refused_at_the_start(
    environ: pytest.MonkeyPatch, azure: AzureServer, name: str, value: str | None, said: str
) -> None:
    environ.delenv(name) if value is None else environ.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        started("az://artifacts/start")
    assert re.search(said, text := str(refused.value)), text
    assert azure.key not in text
    assert WRONG_KEY not in text


def test_no_such_container(environ: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="there is no such bucket; make it, or name another"):
        started("az://nowhere/start")
