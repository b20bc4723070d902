"""What a proxy says is believed where it is trusted, and what it says has to make sense."""

import time

import pytest
from pydantic import ValidationError

from openlaunch.errors import ConfigurationError
from openlaunch.server.proxies import Proxies
from openlaunch.server.settings import Settings


def seen(headers, peer="127.0.0.1", **settings):
    """The URL of the server and the address of the client, for a request with these headers."""
    given = [(b"host", b"server:8000"), *((name.encode(), value.encode()) for name, value in headers.items())]
    scope = {"headers": given, "scheme": "http", "server": ("127.0.0.1", 8000), "client": (peer, 5)}
    proxies = Proxies(Settings(**settings))
    return proxies.base_url(scope), proxies.understood(scope)["client"][0]


X = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "a.example",
    "x-forwarded-prefix": "/team/launch/",
    "x-forwarded-for": "1.2.3.4",
}
TRUSTED = ("https://a.example/team/launch", "1.2.3.4")


@pytest.mark.parametrize(
    ("headers", "url", "client"),
    [
        ({}, "http://server:8000", "127.0.0.1"),
        (X, *TRUSTED),
        ({"x-forwarded-proto": "http, https"}, "https://server:8000", "127.0.0.1"),
        ({"x-forwarded-host": "a", "x-forwarded-port": "81"}, "http://a:81", "127.0.0.1"),
        ({"x-forwarded-host": "a", "x-forwarded-port": "80"}, "http://a", "127.0.0.1"),
        ({"x-forwarded-host": "[::1]", "x-forwarded-port": "81"}, "http://[::1]:81", "127.0.0.1"),
        ({"x-forwarded-for": "6.6.6.6, 1.2.3.4:77, 127.0.0.1"}, "http://server:8000", "1.2.3.4"),
        ({"x-forwarded-for": "unknown"}, "http://server:8000", "127.0.0.1"),
        (
            {"forwarded": 'for=6.6.6.6, for="[2001:db8::1]:5";host="b:8443";Proto=https'},
            "https://b:8443",
            "2001:db8::1",
        ),
        ({"x-forwarded-host": "a/b@c"}, "http://server:8000", "127.0.0.1"),
        ({"x-forwarded-prefix": "//evil.example"}, "http://server:8000", "127.0.0.1"),
        ({"x-forwarded-proto": "javascript"}, "http://server:8000", "127.0.0.1"),
    ],
)
def test_what_a_proxy_on_this_machine_says(headers, url, client):
    assert seen(headers) == (url, client)


def test_whom_the_server_believes():
    assert seen(X, "::1") == TRUSTED
    assert seen(X, "::ffff:127.0.0.1") == TRUSTED
    assert seen(X, "9.9.9.9") == ("http://server:8000", "9.9.9.9")
    assert seen(X, "9.9.9.9", trusted_proxies="9.9.0.0/16") == TRUSTED
    assert seen(X, "127.0.0.1", trusted_proxies="9.9.0.0/16") == ("http://server:8000", "127.0.0.1")
    assert seen(X, "2001:db8::9", trusted_proxies="*") == TRUSTED
    assert seen(X, trusted_proxies="") == ("http://server:8000", "127.0.0.1")


def test_a_public_url_counts_more_than_what_is_said():
    assert seen(X, public_url="https://p.example/x/") == ("https://p.example/x", "1.2.3.4")
    assert Proxies(Settings(public_url="https://p.example/x/")).prefix == b"/x"


@pytest.mark.parametrize("wrong", ["p.example", "https://", "https://p.example?x", "ftp://p.example"])
def test_a_public_url_that_is_none_is_refused(wrong):
    with pytest.raises(ValidationError, match="public_url"):
        Settings(public_url=wrong)


def test_a_network_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match=r"'proxy\.local'"):
        Proxies(Settings(trusted_proxies="127.0.0.1, proxy.local"))


@pytest.mark.parametrize("said", ["," * 60_000, "x," * 30_000, "127.0.0.1," * 6_000])
def test_thousands_of_addresses_take_no_time(said):
    begun = time.process_time()
    assert seen({"x-forwarded-for": "6.6.6.6," + said + "1.2.3.4"}) == ("http://server:8000", "1.2.3.4")
    assert seen({"x-forwarded-for": said})[1] == "127.0.0.1"
    assert time.process_time() - begun < 0.05
