"""The parts of a URL of PostgreSQL, as PostgreSQL's own parser takes them, and not as URLs of the web are made."""

import re
from urllib.parse import unquote

_HOST = r"(?:\[[^\]@/?]*\]|[^\[\]@/?:,]*)(?::[0-9]*)?"
_URL = re.compile(
    rf"(postgres(?:ql)?://)(?:([^:@/]*)(?::([^@/]*))?@)?({_HOST}(?:,{_HOST})*(?:/[^?@]*)?)(?:\?(.*))?"
)
"""The parts of a URL: beginning, user, password, in which `?` and `#` mean nothing, place, and options."""


def is_url(text: str) -> bool:
    """Return whether all is where it belongs; in others a part of the password may be taken for the host."""
    return _URL.fullmatch(text) is not None


def without_password(url: str) -> tuple[str, str]:
    """Return the URL without its password, and that; another text is left as it is."""
    found = _URL.fullmatch(url)
    if found is None:
        return url, ""
    begins, user, password, place, options = found.groups()
    kept = []
    for option in (options or "").split("&"):
        name, _, value = option.partition("=")
        if unquote(name) == "password":
            password = value or password
        elif option:
            kept.append(option)
    named = "" if user is None else f"{user}@"
    return f"{begins}{named}{place}" + (f"?{'&'.join(kept)}" if kept else ""), unquote(password or "")
