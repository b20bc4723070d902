"""The headers of a request that is stored as a task, for a function that takes a context: they begin its payload."""

import json
import re
from collections.abc import Mapping

from openlaunch.server.asgi import MAX_CONTEXT_BYTES
from openlaunch_worker.frames import Body

_BEGINNING = re.compile(rb'\{(?:"traceparent":"[^"]{0,80}",)?"headers":')
_read_first = json.JSONDecoder().raw_decode


def with_headers(body: Body, headers: Mapping[str, str]) -> bytes:
    """Return the JSON of a prediction with the headers of its request in front."""
    text = json.dumps(headers).encode()
    return b'{"headers":%b,%b' % (text, bytes(body).lstrip()[1:])


def headers_in(body: Body) -> dict[str, str]:
    """Return the headers that the JSON of a prediction begins with; none where it does not."""
    if (begins := _BEGINNING.match(body)) is None:
        return {}
    text = bytes(body[begins.end() : begins.end() + 8 * MAX_CONTEXT_BYTES]).decode("utf-8", "replace")
    try:
        found, _ = _read_first(text)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
