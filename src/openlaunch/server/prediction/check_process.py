"""The process that checks inputs and results for the server where that takes long."""

import json
from functools import lru_cache

from openlaunch.server.prediction.batch_lines import body_of_line
from openlaunch.server.prediction.completions import as_sent, completion_in, completion_of, read_content
from openlaunch.server.prediction.compute_process import serve
from openlaunch.server.prediction.inputs import (
    ModelInput,
    PredictInput,
    check_args,
    check_bodies,
    check_body,
    check_model,
    check_parts,
    check_sync_body,
    files_in_json,
    places_of,
    with_value,
    without_auth,
)
from openlaunch.server.prediction.results import response_error
from openlaunch.server.prediction.schemas import BundleSchemas, read_schemas
from openlaunch.server.prediction.tensors import read_inference


@lru_cache(maxsize=32)
def _compiled(source: bytes) -> BundleSchemas:
    return BundleSchemas(json.loads(source), apart=True)


def _one(body: bytes, source: bytes) -> PredictInput:
    return check_body(body, _compiled(source))._replace(body=b"")


def _one_sync(body: bytes, source: bytes) -> PredictInput:
    return check_sync_body(body, _compiled(source))._replace(body=b"")


def _args(body: bytes, source: bytes) -> PredictInput:
    return check_args(body, _compiled(source))._replace(body=b"")


def _parts(body: bytes, source: bytes) -> PredictInput:
    return check_parts(body, _compiled(source))._replace(body=b"")


def _files_in_json(body: bytes, args_alone: bool) -> bytes:
    return files_in_json(body, args_alone=args_alone)


def _model(body: bytes, source: bytes) -> ModelInput:
    return check_model(body, _compiled(source))._replace(body=b"")


def _completion(body: bytes, model: str, is_stream: bool) -> bytes:
    return as_sent(body, model, is_stream=is_stream)


def _completion_of(body: bytes, status: int, request_id: str) -> tuple[int, bytes] | None:
    return completion_of(status, body, request_id)


def _completion_in(line: bytes, is_v1: bool) -> bytes | None:
    return completion_in(line, is_v1=is_v1)


def _many(body: bytes, source: bytes) -> list[tuple[PredictInput, tuple[int, int]]]:
    inputs = check_bodies(body, _compiled(source))
    return [(one._replace(body=b""), place) for one, place in zip(inputs, places_of(body), strict=True)]


def _response(body: bytes, source: bytes) -> str | None:
    return response_error(body, _compiled(source))


if __name__ == "__main__":
    serve(
        {
            "one": _one,
            "one_sync": _one_sync,
            "args": _args,
            "parts": _parts,
            "files_in_json": _files_in_json,
            "model": _model,
            "completion": _completion,
            "completion_of": _completion_of,
            "completion_in": _completion_in,
            "body_of_line": body_of_line,
            "read_content": read_content,
            "with_value": with_value,
            "many": _many,
            "response": _response,
            "schemas": read_schemas,
            "without_auth": without_auth,
            "inference": read_inference,
        }
    )
