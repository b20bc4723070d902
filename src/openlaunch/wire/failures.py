"""Why a prediction failed, as one line."""

from collections.abc import Mapping
from typing import Any

MAX_REASON = 500
_FRAMES = "Traceback (most recent call last):"


def reason_of(document: Mapping[str, Any], most: int = MAX_REASON) -> str:
    """Return why a prediction failed, of at most that many characters; nothing where its answer does not say why.

    It is the type and the message of the exception. In an answer without them, it is the text that stands in place of
    a traceback, or the last line of a traceback.
    """
    error = document.get("error")
    if isinstance(error, Mapping):
        text = ": ".join(str(part) for part in (error.get("type"), error.get("message")) if part)
    else:
        text = str(document.get("traceback") or "").strip()
        if _FRAMES in text:
            text = text.splitlines()[-1]
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
