"""What may be prefetched into an owner's cache, and where in it that lies."""

import re
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

BUCKETS: Final = ("s3", "gs", "az")
FORMS: Final = "https://HOST/PATH, s3://BUCKET/KEY (gs://, az://) or hf://ORG/REPO@REVISION"
_HUB: Final = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w.%-]+))?((?:/[^/]+)*)/?")
MAX_URL: Final = 2000
_MASK: Final = "hidden-"


class Source(NamedTuple):
    """One URL: a file, or a folder of a bucket or a repository; `place` is where it lies below the cache.

    `at` is the host, the bucket or the repository, `path` what is wanted there, "" for all of a repository.
    """

    url: str
    scheme: str
    at: str
    path: str
    revision: str
    place: str


def source_of(url: str) -> Source:
    """Return what a URL names. Raise ValueError if it can't be prefetched."""
    if len(url) > MAX_URL or not url.isprintable():
        raise ValueError(f"{url[:80]!r}… is not a URL of at most {MAX_URL} characters")
    scheme, colon, rest = url.partition("://")
    if scheme == "hf" and colon:
        return _of_hub(url, rest)
    parts = urlsplit(url)
    if scheme not in ("https", "http", *BUCKETS) or not parts.hostname or parts.path in ("", "/"):
        raise ValueError(f"{shown(url)!r} is none of {FORMS}")
    if parts.username or parts.password:
        raise ValueError(f"{shown(url)!r} has a password in it, which others could see: use a secret")
    at = parts.netloc
    path = unquote(parts.path).lstrip("/") if scheme in BUCKETS else parts.path
    return Source(url, scheme, at, path, "", _place(scheme, at.replace(":", "_"), unquote(parts.path)))


def _of_hub(url: str, rest: str) -> Source:
    found = _HUB.fullmatch(rest)
    if found is None:
        raise ValueError(f"{shown(url)!r} is not hf://ORG/REPO, hf://ORG/REPO@REVISION or one of its files")
    repository, revision, path = found[1], unquote(found[2] or "main"), found[3].strip("/")
    place = _place("hf", f"{repository}@{revision.replace('/', '_')}", path)
    return Source(url, "hf", repository, path, revision, place)


def _place(*parts: str) -> str:
    names = [name for part in parts for name in part.split("/") if name]
    if any(name in (".", "..") or name.startswith(".openlaunch") or "\0" in name for name in names):
        raise ValueError(f"{'/'.join(names)[:200]!r} has a part that leads elsewhere")
    return "/".join(names)


def shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    start, at, rest = url.partition("?")[0].rpartition("@")
    if at and "://" in start and start.partition("://")[0] != "hf":
        return f"{start.partition('://')[0]}://…@{rest}"[:300]
    return url.partition("?")[0][:300]


def masked(url: str) -> str:
    """Return a URL with a digest in place of its query, which may be a signature: so a changed one shows."""
    start, mark, query = url.partition("?")
    return (
        url
        if not mark or query.startswith(_MASK)
        else f"{start}?{_MASK}{sha256(query.encode()).hexdigest()[:12]}"
    )
