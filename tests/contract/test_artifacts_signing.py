"""Signed URLs open one key to one method until they expire; locations name keys."""

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.artifacts.locations import key_of, location_of
from openlaunch.artifacts.signing import UrlSigner
from openlaunch.errors import Forbidden, Unprocessable

SIGNER = UrlSigner(b"secret")
TEXT = st.text(st.characters(codec=None), max_size=20)


def signed(method: str = "PUT", key: str = "bundles/a", expires_at: float = 100.9) -> tuple[str, str]:
    """The two values of a signed URL's query."""
    query = parse_qs(SIGNER.sign(method, key, expires_at), strict_parsing=True)
    return query["expires"][0], query["signature"][0]


def test_a_signed_url_opens_its_key_until_it_expires() -> None:
    expires, signature = signed()
    SIGNER.verify("PUT", "bundles/a", expires, signature, now=100)
    with pytest.raises(Forbidden, match="has expired") as refused:
        SIGNER.verify("PUT", "bundles/a", expires, signature, now=100.1)
    assert refused.value.code == "url_expired"


@pytest.mark.parametrize(
    ("method", "key", "expires", "secret"),
    [
        ("GET", "bundles/a", "100", b"secret"),
        ("PUT", "bundles/b", "100", b"secret"),
        ("PUT", "bundles/a", "101", b"secret"),
        ("PUT", "bundles/a", "0100", b"secret"),
        ("PUT", "", "bundles/a\n100", b"secret"),
        ("PUT", "bundles/a", "100", b"another"),
    ],
)
def test_a_signature_is_good_for_nothing_else(method: str, key: str, expires: str, secret: bytes) -> None:
    _, signature = signed()
    with pytest.raises(Forbidden) as refused:
        UrlSigner(secret).verify(method, key, expires, signature, now=0)
    assert refused.value.code == "bad_signature"


@given(TEXT, TEXT, TEXT)
def test_any_text_in_the_query_is_forbidden_and_no_fault(key: str, expires: str, signature: str) -> None:
    with pytest.raises(Forbidden):
        SIGNER.verify("GET", key, expires, signature, now=0)


def test_the_secret_is_not_shown() -> None:
    assert "secret" not in repr(SIGNER)


def test_a_location_names_its_key() -> None:
    assert location_of("bundles/a") == "s3://openlaunch/bundles/a"
    assert key_of(location_of("bundles/a")) == "bundles/a"


@pytest.mark.parametrize("location", ["", "s3://openlaunch/", "s3://other/a", "/etc/passwd", "file:///a"])
def test_another_servers_location_is_refused(location: str) -> None:
    with pytest.raises(Unprocessable, match="upload the bytes first"):
        key_of(location)
