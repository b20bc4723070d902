"""Requests of the Open Inference Protocol: answers and errors have the shape that its clients read."""

import json

from openlaunch.errors import APIError, ServerError
from openlaunch.server.asgi import HARMLESS, problem_headers
from openlaunch.server.gateway.exchange import split_binary
from openlaunch.server.gateway.plain_exchange import LARGE_BYTES, PlainExchange
from openlaunch.server.gateway.response import JSON
from openlaunch.server.prediction.values import problem_of
from openlaunch_worker.files import OCTETS
from openlaunch_worker.frames import Body
from openlaunch_worker.tensors import HEADER

_FAILED = b'{"status"'


class InferenceExchange(PlainExchange):
    """One request of the protocol."""

    __slots__ = ()

    def respond(self, body: Body) -> None:
        """Answer with the failure of a model, or again with tensors that were kept under an Idempotency-Key."""
        if self._collected:
            self._collected += body
            body = self._collected
        if body.startswith(_FAILED):
            if len(body) > LARGE_BYTES:  # no worker that keeps to the rules fails so
                raise ServerError("the worker's answer is not one")
            self.respond_failed(bytes(body))
        else:
            self.respond_binary(body)

    def respond_binary(self, payload: Body) -> None:
        """Answer with the JSON of a worker and the tensors behind it; its media type says how long the former is."""
        tensors, media_type = split_binary(payload)
        self._respond(200, headers_of(media_type), tensors)

    def respond_failed(self, body: bytes) -> None:
        """Answer with why a model has failed."""
        status, problem = problem_of(body, self.request_id)
        text = json.dumps({"error": str(problem["detail"])}).encode()
        self._respond(status, {**JSON, "x-request-id": self.request_id}, text)

    def _described(self, error: APIError, request_id: str) -> tuple[dict[str, str], bytes]:
        text = error.message
        for misfit in error.errors:
            text += f"; {'.'.join(map(str, misfit['loc']))}: {misfit['msg']}"
        return {**JSON, **problem_headers(error, request_id)}, json.dumps({"error": text}).encode()


def headers_of(media_type: str) -> dict[str, str]:
    """Return the headers of a worker's answer. What it says is a model's: no more than a number of it is in them."""
    _, is_binary, length = media_type.partition(f"{HEADER}=")
    if is_binary and length.isascii() and length.isdecimal():
        return {"content-type": OCTETS, HEADER: length, **HARMLESS}
    return {**JSON, **HARMLESS}
