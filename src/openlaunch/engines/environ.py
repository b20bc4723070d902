"""Which of the server's environment variables the processes it starts may see."""

from collections.abc import Iterable, Mapping

_NAMES = {
    *(
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
}
_PREFIXES = ("LC_", "SSL_CERT_", "NVIDIA_")


def scrub(environ: Mapping[str, str], prefixes: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables that carry no secrets of the server: an allow-list, and those with one of `prefixes`."""
    allowed = (*_PREFIXES, *prefixes)
    return {
        name: value
        for name, value in environ.items()
        if name in _NAMES or (name.islower() and name.upper() in _NAMES) or name.startswith(allowed)
    }
