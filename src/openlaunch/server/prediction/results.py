"""Answers that the gateway makes, and its checks of the worker's: pickles, and the response schema."""

import json
import time
from urllib.parse import quote

import orjson

from openlaunch.artifacts.signing import UrlSigner
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.proxies import Proxies
from openlaunch.tasks.states import failure
from openlaunch.wire import routes
from openlaunch_worker.answers import HEAD, TAIL
from openlaunch_worker.frames import Body

_QUOTE = ord('"')
_PIECE = 1024 * 1024


def pickled_body(url: str) -> bytes:
    """Make the body of a SUCCESS whose value is a pickle behind a URL."""
    document = {"status": "SUCCESS", "result": {"result_url": url}, "traceback": None, "status_code": 200}
    return json.dumps(document).encode()


class SignedURLs:
    """URLs to artifacts that are good for one method and one key, for a while."""

    def __init__(self, signer: UrlSigner, lifetime: float, proxies: Proxies) -> None:
        self.base_url = proxies.base_url
        self._signer = signer
        self._lifetime = lifetime

    def make(self, base: str, method: str, key: str) -> str:
        """Sign an absolute URL."""
        query = self._signer.sign(method, key, time.time() + self._lifetime)
        return f"{base}{routes.ARTIFACTS}/{quote(key)}?{query}"


def is_success(body: Body) -> bool:
    """Return whether the bytes are the answer with a value as workers make it: they are put among other answers."""
    if body[: len(HEAD)] != HEAD or body[-len(TAIL) :] != TAIL:
        return False
    text = memoryview(body)[len(HEAD) : -len(TAIL)]
    if len(text) < 2 or text[0] != _QUOTE or text[-1] != _QUOTE:
        return False
    start, end = 1, len(text) - 1
    while start < end:
        # By pieces, because the parser lets no other thread run; none ends within an escape.
        stop = min(start + _PIECE, end)
        if stop < end and not _is_json_string(text[start:stop]):
            stop += 1
        if not _is_json_string(text[start:stop]):
            return False
        start = stop
    return True


def _is_json_string(text: memoryview) -> bool:
    try:
        return type(orjson.loads(b'"' + text + b'"')) is str
    except orjson.JSONDecodeError:
        return False


def response_error(body: Body, schemas: BundleSchemas) -> str | None:
    """Say why the value in the body of a SUCCESS does not fit the response schema; None if it fits."""
    try:
        value = orjson.loads(orjson.loads(body)["result"]["result"])
    except (ValueError, LookupError, TypeError) as error:
        return f"it can't be read as JSON: {error}"
    return schemas.response_error(value, len(body))


MISFIT = "the return value does not fit the bundle's response schema"


def with_request_id(failed: bytes, request_id: str) -> bytes:
    """Return the body, or the last event, of a prediction that failed, with the request's id in its document."""
    document = failed.rstrip()
    event_end = b"\n\n" if failed.startswith(b"data: ") else b""
    return document[:-1] + b', "request_id": ' + json.dumps(request_id).encode() + b"}" + event_end


def failed_response(error: str) -> bytes:
    """Make the body of a FAILURE of a value that does not fit."""
    return failure(f"{MISFIT}: {error}", 500)
