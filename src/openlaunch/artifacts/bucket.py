"""Artifacts in a bucket of S3, Google Cloud Storage or Azure, through obstore.

The credentials come from the environment, under the names that each service's own tools use (`AWS_*`, `GOOGLE_*`,
`AZURE_*`). No credential is in a message or a log, and no text of the service, in which one could be.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from obstore import sign_async
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from openlaunch.artifacts.bucket_problems import is_bucket_missing, problem_of
from openlaunch.artifacts.objects import PROBE, ObjectArtifacts, checked_key, unavailable
from openlaunch.errors import ConfigurationError, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

log = logging.getLogger(__name__)

Bucket = S3Store | GCSStore | AzureStore

_URL = re.compile(
    r"(s3|gs|az)://([a-z0-9][a-z0-9._-]{1,62})((?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,10})/?"
)
_KINDS: dict[str, type[Bucket]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
_HTTP_ALLOWED = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}

START_SECONDS = 15.0
"""How long a start waits for the bucket."""
MARK = "openlaunch-server"
"""The object that says whose artifacts lie beside it."""
_MARK_TEXT = "artifacts of the server "
LONGEST_URL = 7 * 24 * 3600.0
"""The longest that S3 lets a signed URL be valid."""

_RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=2),
        "base": 2,
    },
}


class BucketArtifacts(ObjectArtifacts):
    """`artifacts.base.Artifacts` in a bucket, below a prefix."""

    is_service = True
    seconds = 30.0

    def __init__(self, url: str, *, signs_urls: bool = True, environ: Mapping[str, str] = os.environ) -> None:
        """Name the bucket; nothing is sent yet.

        Raises ConfigurationError when the URL or what the environment says is not enough to reach it.
        """
        self.url = _checked_url(url)
        self._bucket = _bucket(self.url, environ)
        self._signed = {"GET", "PUT"} if signs_urls else set()
        if isinstance(self._bucket, AzureStore):
            self._signed.discard(
                "PUT"
            )  # for which Azure asks for a header that clients of others do not send
        super().__init__(self._bucket)

    async def start(self, owner: str) -> None:
        """Try what the server will do with the bucket, and mark the prefix as this server's.

        Raises ConfigurationError when something of it can't be done, or the mark is another server's.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._claim(owner)
                await self.probe()
                await self._try_to_sign()
        except TimeoutError:
            raise self._refused(
                f"no answer within {START_SECONDS:g} s; look at the network and the endpoint"
            ) from None
        except Unavailable as error:
            raise self._refused(error.message) from None

    def _refused(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"the artifacts can't be kept in {self.url}: {problem}")

    async def _claim(self, owner: str) -> None:
        mine = f"{_MARK_TEXT}{owner}".encode()
        try:
            found = await self.get(MARK, limit=1000)
        except NotFound:
            found = await self._mark(mine)
        if not found.startswith(_MARK_TEXT.encode()):
            raise self._refused("what answers is not such a service; look at the endpoint")
        if found != mine:
            raise self._refused(
                "they are another server's, and each server needs a prefix of its own: name another one with "
                f"--artifacts. If this server takes the other one's place, delete the object {MARK} there first"
            )

    async def _mark(self, mine: bytes) -> bytes:
        async with self._answered(MARK, self.seconds):
            try:
                await self._bucket.put_async(MARK, mine, mode="create")
                return mine
            except AlreadyExistsError:  # of another server that starts at the same time
                pass
        return await self.get(MARK, limit=1000)

    async def probe(self) -> None:
        await self.put(PROBE, b"ok")
        with suppress(NotFound):  # another server of the cluster has tried the same, and deleted it
            await self.get(PROBE)
        async for _ in self.pages("health"):
            pass
        with suppress(NotFound):
            await self.delete(PROBE)

    async def _try_to_sign(self) -> None:
        """Let bytes go through the server where the credentials sign no URLs, as a machine's account may not."""
        try:
            await self.signed_url("GET", PROBE, 60)
        except Unavailable as error:
            log.warning("uploads and downloads go through the server: no URL can be signed: %s", error)
            self._signed = set()

    async def size(self, key: str) -> int:
        try:
            return await super().size(key)
        except NotFound:
            await self.get(
                key, limit=0
            )  # an answer without a body does not say whether the bucket is missing
            raise

    async def stream(self, key: str, piece: int = 1 << 20) -> AsyncIterator[bytes]:
        async with self._answered(key, self.seconds):
            result = await self._bucket.get_async(checked_key(key))
        size, version, sent, resumed_at = int(result.meta["size"]), result.meta["e_tag"], 0, 0
        while True:
            try:
                async for chunk in self._pieces(key, result, piece):
                    sent += len(chunk)
                    yield chunk
                return
            except Unavailable:  # a service closes the connection to a reader that takes long
                if sent == size:
                    return
                if sent == resumed_at:
                    raise
            resumed_at = sent
            rest: GetOptions = {"range": {"offset": sent}, "if_match": version}
            async with self._answered(key, self.seconds):
                result = await self._bucket.get_async(key, options=rest)

    async def signed_url(self, method: Literal["GET", "PUT"], key: str, seconds: float) -> str | None:
        if method not in self._signed:
            return None
        lifetime = timedelta(seconds=min(seconds, LONGEST_URL))
        async with self._answered(key, self.seconds):
            return await sign_async(self._bucket, method, key, lifetime)

    def _check_missing(self, key: str, error: Exception) -> None:
        if is_bucket_missing(str(error)):
            raise unavailable(key, self._problem(error))

    def _problem(self, error: Exception) -> str:
        problem = problem_of(str(error))
        log.error("the artifacts in %s failed: %s", self.url, problem)
        return problem


def _checked_url(url: str) -> str:
    if not _URL.fullmatch(url):
        scheme, separator, _ = url.partition("://")
        begins = f" (it begins with {scheme[:20]!r})" if separator else ""
        raise ConfigurationError(
            f"the setting 'artifacts' is not the URL of a bucket{begins}: "
            "give s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without credentials, which belong "
            "into the server's environment (AWS_ACCESS_KEY_ID and so on)"
        )
    return url.rstrip("/")


def _bucket(url: str, environ: Mapping[str, str]) -> Bucket:
    scheme = url.partition("://")[0]
    options: ClientConfig = {
        "connect_timeout": "5s",
        "read_timeout": "15s",
        "timeout": "1day",  # of a whole answer, which a slow client may hold up; each read of it has the 15 s
    }
    if _is_plain_http(scheme, environ):
        options["allow_http"] = True
    try:
        return _KINDS[scheme].from_url(url, client_options=options, retry_config=_RETRY)
    except BaseError as error:
        raise ConfigurationError(f"the artifacts can't be kept in {url}: {problem_of(str(error))}") from None


def _is_plain_http(scheme: str, environ: Mapping[str, str]) -> bool:
    """Return whether the endpoint is spoken to without TLS; raise ConfigurationError where that is not allowed."""
    name = next((name for name in _ENDPOINTS[scheme] if environ.get(name)), None)
    endpoint = urlsplit(environ[name]) if name else None
    if endpoint is None or endpoint.scheme != "http":
        return False
    allowed = _HTTP_ALLOWED[scheme]
    if not _is_loopback(endpoint.hostname or "") and environ.get(allowed, "").lower() not in ("1", "true"):
        raise ConfigurationError(
            f"{name} names a host that is spoken to without TLS, so that others on the network can read along: use "
            f"https, or set {allowed}=true where the network is your own"
        )
    return True


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
