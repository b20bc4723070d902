"""Where the server is and which key opens it: arguments, environment, a profile, a local server's credentials."""

import base64
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from openlaunch.client.profiles import read_config
from openlaunch.errors import ConfigurationError

CREDENTIALS_FILE = "credentials.json"
ARGUMENTS = "the arguments"
"""Where a URL or a key came from that was given."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server and the key to it.

    Attributes:
        url: scheme, host, port and path prefix, without a slash at the end; of several servers, with commas between.
        api_key: sent as the user name of HTTP Basic.
        source: where the URL came from, for error messages.
        key_source: where the key came from.
        ca_file: the file of certificates that the profile names.

    Raises ConfigurationError when HTTP Basic can't carry the key.
    """

    url: str
    api_key: str = field(repr=False)
    source: str
    key_source: str = ""
    ca_file: str | None = None

    def __post_init__(self) -> None:
        _check_key(self.api_key, self.key_source)

    def each(self) -> "list[Address]":
        """Return the address of each server."""
        return [replace(self, url=url) for url in _SEVERAL.split(self.url)]

    @property
    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.api_key}:".encode()).decode()


@dataclass(frozen=True, slots=True)
class _Credentials:
    url: str
    api_key: str = field(repr=False)
    path: Path


def find_address(
    api_key: str | None = None,
    endpoint: str | None = None,
    *,
    profile: str | None = None,
    keep_path: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """Find the server's address: arguments, else the environment, else a profile, else a credentials file.

    A stored key is used with the URL that it is stored with only, and a key from `LAUNCH_API_KEY` is not sent to a
    URL from `OPENLAUNCH_URL`, nor the other way round.

    Raises:
        ConfigurationError: no URL or no key was found, or the URL is not one.
    """
    if endpoint is not None and profile is not None:
        raise ConfigurationError(f"a server and the profile {profile!r} are both given: give one of them")
    if endpoint is not None:
        url = _normal(endpoint, ARGUMENTS, keep_path=keep_path)
        return _with_key(url, ARGUMENTS, api_key, environ, _API_KEYS)
    found = (
        _from_profile(profile, api_key, environ)
        if profile is not None
        else _from_environment(api_key, environ)
        or _from_profile(environ.get("OPENLAUNCH_PROFILE"), api_key, environ)
        or _from_file(api_key, environ)
    )
    if found is None:
        raise ConfigurationError(_HELP)
    return found


def find_ca_file(
    given: str | Path | None, of_profile: str | None = None, environ: Mapping[str, str] = os.environ
) -> Path | None:
    """Find the file of certificates to trust beside the system's.

    It is the argument, else that of `OPENLAUNCH_CA_FILE`, else that of the profile. Raises ConfigurationError when it
    can't be read, or has no certificates.
    """
    named = {
        "ca_file": given,
        "OPENLAUNCH_CA_FILE": environ.get("OPENLAUNCH_CA_FILE"),
        "the profile": of_profile,
    }
    source, path = next(((source, path) for source, path in named.items() if path), ("", None))
    if path and not isinstance(path, str | Path):
        raise ConfigurationError(f"{source} is {path!r:.100}: the path of a file is needed")
    if not path:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(Path(path).expanduser())
    except OSError as error:
        reason = "it has no certificate as PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{str(path)!r} (from {source}) can't be used: {reason}") from error
    return Path(path).expanduser()


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine, whatever its environment says of proxies."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host.partition("%")[0]).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Find the data directory of this user's local server."""
    named = environ.get("OPENLAUNCH_DATA_DIR")
    return Path(named).expanduser() if named else Path.home() / ".openlaunch"


_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_SEVERAL = re.compile(r"\s*,\s*(?=https?://)")
_API_KEYS = ("OPENLAUNCH_API_KEY", "LAUNCH_API_KEY")
_PAIRS = (("OPENLAUNCH_URL", "OPENLAUNCH_API_KEY"), ("LAUNCH_ENDPOINT", "LAUNCH_API_KEY"))
_HELP = """\
no server was named, and none is found on this machine. Do one of these:
  - start one here: openlaunch serve (it is found by its credentials.json in $OPENLAUNCH_DATA_DIR or ~/.openlaunch)
  - log in to one elsewhere: openlaunch login http://HOST:PORT
  - name it: LaunchClient(api_key="...", endpoint="http://HOST:PORT"), or of a command --server URL --api-key KEY
  - set OPENLAUNCH_URL and OPENLAUNCH_API_KEY (or LAUNCH_ENDPOINT and LAUNCH_API_KEY)"""


def _from_environment(api_key: str | None, environ: Mapping[str, str]) -> Address | None:
    for url_name, key_name in _PAIRS:
        if environ.get(url_name):
            url = _normal(environ[url_name], url_name, keep_path=True)
            return _with_key(url, url_name, api_key, environ, (key_name,))
    return None


def _from_profile(name: str | None, api_key: str | None, environ: Mapping[str, str]) -> Address | None:
    config = read_config(environ)
    chosen = name or config.active
    if chosen is None:
        return None
    profile, source = config.profile(chosen), f"the profile {chosen} in {config.path}"
    key, key_source = _key(api_key, environ, ("OPENLAUNCH_API_KEY",)) or (profile.api_key, source)
    return Address(_normal(profile.url, source, keep_path=True), key, source, key_source, profile.ca_file)


def _from_file(api_key: str | None, environ: Mapping[str, str]) -> Address | None:
    credentials = _read_credentials(environ)
    if credentials is None:
        return None
    source = str(credentials.path)
    key, key_source = _key(api_key, environ, ("OPENLAUNCH_API_KEY",)) or (credentials.api_key, source)
    return Address(credentials.url, key, source, key_source)


def _with_key(
    url: str, source: str, api_key: str | None, environ: Mapping[str, str], names: tuple[str, ...]
) -> Address:
    key = _key(api_key, environ, names)
    if key is not None:
        return Address(url, key[0], source, key[1])
    credentials = _read_credentials(environ)
    if credentials is not None and credentials.url == url:
        return Address(url, credentials.api_key, source, str(credentials.path))
    config = read_config(environ)
    for profile in config.profiles.values():
        if profile.url == url:
            stored = f"the profile {profile.name} in {config.path}"
            return Address(url, profile.api_key, source, stored, profile.ca_file)
    raise ConfigurationError(
        f"no API key for {url} (from {source}): give api_key or --api-key, set {' or '.join(names)}, or log in: "
        f"openlaunch login {url}"
    )


def _key(api_key: str | None, environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the key that is given, and where it is, if it is given."""
    if api_key:
        return api_key, ARGUMENTS
    return next(((environ[name], name) for name in names if environ.get(name)), None)


def _check_key(key: object, source: str) -> None:
    """Raise ConfigurationError, which does not show the key, when HTTP Basic can't carry it."""
    if not isinstance(key, str):
        raise ConfigurationError(f"the API key (from {source}) is {type(key).__name__}, a str is needed")
    if ":" in key or not key.isprintable() or key != key.strip():
        raise ConfigurationError(
            f"the API key (from {source}) has a colon, a character that is not printed, such as a line break, or "
            "white space around it: give it exactly as the server shows it"
        )


def _read_credentials(environ: Mapping[str, str]) -> _Credentials | None:
    path = data_dir(environ) / CREDENTIALS_FILE
    try:
        document = json.loads(path.read_text())
        return _Credentials(_normal(document["url"], str(path), keep_path=True), document["api_key"], path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the credentials file {path} can't be read: {error!r}") from error


def _normal(urls: str, source: str, *, keep_path: bool) -> str:
    """Return a server's URL in one spelling; those of several servers with commas between."""
    each = _SEVERAL.split(urls) if isinstance(urls, str) else [urls]
    return ",".join(_normal_one(url, source, keep_path=keep_path) for url in each)


def _normal_one(url: str, source: str, *, keep_path: bool) -> str:
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        host = (parts.hostname or "").encode("idna").decode()
    except (AttributeError, ValueError):  # not text; a port or host that can't be one
        usable = False
    if not usable or not _HOST.fullmatch(host):
        raise ConfigurationError(f"{url!r} (from {source}) is not a URL such as http://127.0.0.1:8000")
    if parts.username or parts.query or parts.fragment:
        raise ConfigurationError(f"the URL from {source} has a user name, query or fragment: leave them out")
    path = parts.path.rstrip("/")
    if path and not keep_path:
        raise ConfigurationError(
            f"{url!r} (from {source}) has a path: pass use_path_with_custom_endpoint=True to keep it"
        )
    where = f"[{host}]" if ":" in host else host
    netloc = where if parts.port is None else f"{where}:{parts.port}"
    return urlunsplit((parts.scheme, netloc, quote(path, safe="/%:@!$&'()*+,;=~"), "", ""))
