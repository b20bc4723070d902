"""Objects of a bucket, of S3, Google or Azure, signed with the keys of the environment, if it has some."""

import datetime as dt
import hashlib
import hmac
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from openlaunch_worker.azure_blobs import Container
from openlaunch_worker.hub_repositories import Progress
from openlaunch_worker.prefetch_urls import Source
from openlaunch_worker.resuming import Download, Failed, Headers, missing, no_headers, read_document

_NO_BODY: Final = hashlib.sha256(b"").hexdigest()
MAX_OBJECTS: Final = 100_000


class Bucket(Protocol):
    """What objects are fetched from."""

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        ...

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the objects below a prefix, and their sizes."""
        ...


def fetch(cache: Path, source: Source, progress: Progress) -> None:
    """Have an object, or all below a key that ends with `/`."""
    bucket: Bucket = Container(source) if source.scheme == "az" else S3Bucket(source)
    if not source.path.endswith("/"):
        progress.expect(0)
        _download(bucket, source.path, cache / source.place, progress)
        return
    found = []
    for each in bucket.listed(source.path):
        found.append(each)
        if len(found) > MAX_OBJECTS:
            raise Failed(f"there are over {MAX_OBJECTS} objects below {source.path!r}")
    if not found:
        raise Failed(f"there is nothing below {source.path!r}")
    place = cache / source.place
    to_come = sum(missing(place / key.removeprefix(source.path), size) for key, size in found if size)
    progress.expect(sum(size for _, size in found), to_come)
    for key, size in found:
        name = key.removeprefix(source.path)
        if not name or name.endswith("/"):
            continue
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise Failed(f"a key is {key[:200]!r}, which leads elsewhere")
        target = cache / source.place / name
        if target.exists():
            progress.came(size)
        else:
            _download(bucket, key, target, progress)


def _download(bucket: Bucket, key: str, target: Path, progress: Progress) -> None:
    url = bucket.url(key)
    headers: Headers = partial(signature, url) if isinstance(bucket, S3Bucket) else no_headers
    Download(url, target, headers, progress.came).run()


class S3Bucket:
    """A bucket that speaks S3, as that of Google Cloud Storage does."""

    def __init__(self, source: Source) -> None:
        self._base = (_google if source.scheme == "gs" else _base)(source.at)

    def url(self, key: str) -> str:
        """Return the URL of an object, of which each request is signed by its headers."""
        return f"{self._base}/{quote(key)}"

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the objects below a prefix, and their sizes."""
        return _listed(self._base, prefix)


def _base(bucket: str) -> str:
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        return f"{endpoint.rstrip('/')}/{bucket}"
    return f"https://{bucket}.s3.{_region()}.amazonaws.com"


def _google(bucket: str) -> str:
    return (
        f"{os.environ.get('GOOGLE_STORAGE_ENDPOINT', 'https://storage.googleapis.com').rstrip('/')}/{bucket}"
    )


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _listed(base: str, prefix: str) -> Iterator[tuple[str, int]]:
    more: dict[str, str] = {}
    while True:
        query = {"list-type": "2", "prefix": prefix, **more}
        url = f"{base}/?{urlencode(sorted(query.items()), quote_via=quote)}"
        root = ET.fromstring(read_document(url, partial(signature, url)))  # noqa: S314 -- of the owner's bucket
        space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
        for each in root.iter(f"{space}Contents"):
            yield each.findtext(f"{space}Key", ""), int(each.findtext(f"{space}Size", "0"))
        token = root.findtext(f"{space}NextContinuationToken")
        if not token:
            return
        more = {"continuation-token": token}


def signature(url: str) -> Mapping[str, str]:
    """Return the headers that sign a GET as of now (AWS Signature Version 4); none without keys."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        return {}
    parts, now = urlsplit(url), dt.datetime.now(dt.UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    signed = {"host": parts.netloc, "x-amz-content-sha256": _NO_BODY, "x-amz-date": stamp}
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        signed["x-amz-security-token"] = token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = f"GET\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{_NO_BODY}"
    scope = f"{day}/{_region()}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    made = f"AWS4{secret}".encode()
    for part in (day, _region(), "s3", "aws4_request"):
        made = hmac.new(made, part.encode(), hashlib.sha256).digest()
    proof = hmac.new(made, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={proof}"
    return {**{name: value for name, value in signed.items() if name != "host"}, "Authorization": credential}
