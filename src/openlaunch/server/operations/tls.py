"""The server's certificate."""

import ssl
from pathlib import Path

from openlaunch.errors import ConfigurationError


def check_certificate(cert: Path | None, key: Path | None) -> None:
    """Raise ConfigurationError unless the server can use the certificate; None is allowed."""
    if cert is None:
        if key is not None:
            raise ConfigurationError(f"--tls-key is {str(key)!r}, and its certificate is missing: --tls-cert")
        return
    for name, path in (("--tls-cert", cert), ("--tls-key", key)):
        if path is not None:
            _check_readable(name, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error
        keyed = f"the key {str(key)!r}" if key is not None else "the key that has to be in the same file"
        raise ConfigurationError(
            f"the certificate {str(cert)!r} can't be used with {keyed}: {reason}; both are PEM files"
        ) from error


def _check_readable(name: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"{name} is {str(path)!r}: {error.strerror or error}") from error


def _no_password() -> str:
    raise ValueError(
        "the key is encrypted, and a server has nobody to ask for its password: use a key without one"
    )
