"""The OpenAPI document: the control plane's own routes, and the predict routes, which FastAPI never sees.

The functions below are never called. They say in FastAPI's words what `gateway` and `task_routes` answer.
"""

import asyncio
import json
import sys
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, FastAPI, Header, Query, Request, Response
from fastapi.openapi.utils import get_openapi

from openlaunch.errors import ServerError
from openlaunch.server.accept import check_accept
from openlaunch.wire import routes
from openlaunch.wire.inference import InferRequest, ModelMetadata
from openlaunch.wire.tasks import (
    MAX_WAIT_SECONDS,
    BulkCreateRequest,
    BulkCreateResponse,
    BulkWaitRequest,
    BulkWaitResponse,
    CancelTaskResponse,
    CreateTaskResponse,
    PredictRequest,
    PredictResponse,
    SyncPredictRequest,
    TaskResponse,
)

_IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]
_LastEventID = Annotated[str | None, Header(description="Resumes a stream after this event.")]
_Resume = Annotated[
    Literal["true"] | None, Header(description="Numbers the events, so that the stream can be resumed.")
]
_HeadLength = Annotated[
    int | None,
    Header(
        alias="Inference-Header-Content-Length",
        ge=0,
        description="How many bytes of the body are JSON; without it, all of them.",
    ),
]
_Prefer = Annotated[
    str | None,
    Header(description="`respond-async`, `wait=SECONDS`: the answer is a 202 where it takes longer."),
]
_ARGS = Body(description="The arguments, by their names.")
_OF_MODEL = Body(description="`model` names the endpoint; all of it goes to the endpoint's engine as it is.")
_AUDIO = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "model": {"type": "string"},
                        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                    },
                    "required": ["model", "file"],
                }
            }
        },
    }
}
_BY_NAME = {202: {"description": "it is a task; `Location` has its value once it is done"}}
_STREAM = {
    200: {
        "description": "server-sent events, each a PredictResponse. The last one is a FAILURE, or behind it is "
        "`: end`; with `Openlaunch-Resume`, the last one is `event: end` or a FAILURE",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def _predictions() -> APIRouter:
    api = APIRouter(tags=["predictions"])

    @api.post(routes.SYNC_TASKS)
    def create_sync_inference_task(
        model_endpoint_id: str, body: SyncPredictRequest, idempotency_key: _IdempotencyKey = None
    ) -> PredictResponse:
        """Run a prediction and return its result. An exception in the model is a 200 with status FAILURE.

        A repeated Idempotency-Key gives the first answer again.
        """
        raise AssertionError

    @api.post(routes.STREAMING_TASKS, responses=_STREAM)  # type: ignore[arg-type]
    def create_streaming_inference_task(
        model_endpoint_id: str,
        body: SyncPredictRequest,
        openlaunch_resume: _Resume = None,
        last_event_id: _LastEventID = None,
    ) -> PredictResponse:
        """Run a prediction and stream its items as they come."""
        raise AssertionError

    @api.delete(routes.STREAMING_TASKS)
    def stop_streaming_inference_task(
        model_endpoint_id: str, last_event_id: Annotated[str, Header()]
    ) -> CancelTaskResponse:
        """Stop a resumable stream, because its client will not come back."""
        raise AssertionError

    @api.post(routes.ASYNC_TASKS)
    def create_async_inference_task(
        model_endpoint_id: str, body: PredictRequest, idempotency_key: _IdempotencyKey = None
    ) -> CreateTaskResponse:
        """Put a task into the durable queue; a repeated Idempotency-Key gives the first task's id."""
        raise AssertionError

    @api.post(routes.ASYNC_TASKS_BULK)
    def create_async_inference_tasks(
        model_endpoint_id: str, body: BulkCreateRequest, idempotency_key: _IdempotencyKey = None
    ) -> BulkCreateResponse:
        """Put up to 1,000 tasks into the queue, all or none."""
        raise AssertionError

    @api.post(routes.ASYNC_TASKS_WAIT)
    def wait_for_async_inference_tasks(body: BulkWaitRequest) -> BulkWaitResponse:
        """Wait until one of up to 1,000 tasks is done, and return all that are done."""
        raise AssertionError

    @api.get(routes.ASYNC_TASKS + "/{task_id}")
    def get_async_inference_task(
        task_id: str, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0
    ) -> TaskResponse:
        """Get a task. With `wait`, the answer is held until it is done, for at most that many seconds."""
        raise AssertionError

    @api.post(routes.BY_NAME + "/{name}", responses=_BY_NAME)  # type: ignore[arg-type]
    def predict_by_name(
        name: str, body: Any = _ARGS, idempotency_key: _IdempotencyKey = None, prefer: _Prefer = None
    ) -> Any:
        """Run a prediction: the body is the arguments, the answer the value. An exception in the model is a 500."""
        raise AssertionError

    @api.post(routes.BY_NAME + "/{owner_name}/{name}", responses=_BY_NAME)  # type: ignore[arg-type]
    def predict_by_owner_and_name(
        owner_name: str,
        name: str,
        body: Any = _ARGS,
        idempotency_key: _IdempotencyKey = None,
        prefer: _Prefer = None,
    ) -> Any:
        """Run a prediction of an endpoint of this owner."""
        raise AssertionError

    @api.get(routes.BY_NAME + "/{name}/tasks/{task_id}", responses=_BY_NAME)  # type: ignore[arg-type]
    def get_task_by_name(name: str, task_id: str, prefer: _Prefer = None) -> Any:
        """Get the value of a task; the answer is held until it is there, for 20 s or as long as it is preferred."""
        raise AssertionError

    @api.get(routes.BY_NAME + "/{owner_name}/{name}/tasks/{task_id}", responses=_BY_NAME)  # type: ignore[arg-type]
    def get_task_by_owner_and_name(owner_name: str, name: str, task_id: str, prefer: _Prefer = None) -> Any:
        """Get the value of a task at an endpoint of this owner."""
        raise AssertionError

    return api


def _audio() -> APIRouter:
    api = APIRouter(tags=["models"])

    @api.post(routes.SPEECH)
    def create_speech(body: dict[str, Any] = _OF_MODEL) -> Any:
        """Have a model read a text aloud."""
        raise AssertionError

    @api.post(routes.TRANSCRIPTIONS, openapi_extra=_AUDIO)
    def create_transcription() -> Any:
        """Have a model write down what is said in a file."""
        raise AssertionError

    @api.post(routes.TRANSLATIONS, openapi_extra=_AUDIO)
    def create_translation() -> Any:
        """Have a model write down in English what is said in a file."""
        raise AssertionError

    return api


_ANSWERED = {
    routes.CHAT_COMPLETIONS: (
        "create_chat_completion",
        "Have a model answer a chat, as OpenAI's API has it. With `stream`, the answer is server-sent events.",
    ),
    routes.COMPLETIONS: ("create_completion", "Have a model continue a text."),
    routes.EMBEDDINGS: ("create_embedding", "Have a model turn texts into vectors."),
    routes.RESPONSES: ("create_response", "Have a model answer, as OpenAI's Responses API has it."),
    routes.MESSAGES: ("create_message", "Have a model answer, as Anthropic's API has it."),
    routes.COUNT_TOKENS: (
        "count_message_tokens",
        "Have a model's engine count the tokens of such a request.",
    ),
    routes.RERANK: ("rerank", "Have a model put documents in the order in which they answer a query."),
    routes.SCORE: ("score", "Have a model say how alike texts are."),
}
"""What models answer as it is: the name and the description of each route."""


def _passed_on(body: dict[str, Any] = _OF_MODEL) -> Any:
    raise AssertionError


def _models() -> APIRouter:
    api = APIRouter(tags=["models"])
    for path, (name, text) in _ANSWERED.items():
        api.add_api_route(path, _passed_on, methods=["POST"], name=name, description=text)

    @api.get(routes.MODELS)
    def list_models() -> Any:
        """List the endpoints that speak OpenAI and that the key may use."""
        raise AssertionError

    @api.get(routes.MODELS + "/{model}")
    def get_model(model: str) -> Any:
        """Get one of these."""
        raise AssertionError

    return api


def _inference() -> APIRouter:
    api = APIRouter(tags=["open inference protocol"])
    model = f"{routes.INFERENCE}/models/{{name}}"
    of_version = model + "/versions/{version}"

    @api.get(routes.INFERENCE)
    def get_inference_server() -> dict[str, Any]:
        """Get the server's name, its version, and the extensions of the protocol that it has."""
        raise AssertionError

    @api.get(routes.INFERENCE + "/health/live")
    def is_live() -> dict[str, bool]:
        """Answer 200 while the server runs."""
        raise AssertionError

    @api.get(routes.INFERENCE + "/health/ready")
    def is_ready() -> dict[str, bool]:
        """Answer 200 where the server can serve, else 503."""
        raise AssertionError

    @api.get(model)
    def get_inference_model(name: str) -> ModelMetadata:
        """Get the tensors that an endpoint takes and returns. An owner may stand before its name: `owner/name`."""
        raise AssertionError

    @api.get(model + "/ready")
    def is_inference_model_ready(name: str) -> dict[str, Any]:
        """Answer 200 where an endpoint serves, else 503."""
        raise AssertionError

    @api.post(model + "/infer")
    def infer(
        name: str,
        body: InferRequest,
        head_length: _HeadLength = None,
        idempotency_key: _IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Run a prediction with tensors, whose elements are in the JSON or, as bytes, behind it."""
        raise AssertionError

    @api.get(of_version)
    def get_inference_model_version(name: str, version: str) -> ModelMetadata:
        """Get the same of an endpoint that serves the bundle with this id; 404 where it serves another one."""
        raise AssertionError

    @api.get(of_version + "/ready")
    def is_inference_model_version_ready(name: str, version: str) -> dict[str, Any]:
        """Answer the same of an endpoint that serves this bundle."""
        raise AssertionError

    @api.post(of_version + "/infer")
    def infer_version(
        name: str,
        version: str,
        body: InferRequest,
        head_length: _HeadLength = None,
        idempotency_key: _IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Run a prediction of an endpoint that serves this bundle."""
        raise AssertionError

    return api


_SECURITY = {
    "HTTPBasic": {"type": "http", "scheme": "basic", "description": "the API key as user name, no password"},
    "HTTPBearer": {"type": "http", "scheme": "bearer", "description": "the API key"},
}


class ControlPlane(FastAPI):
    """FastAPI, whose document has the predict routes and the ways to authenticate too.

    Making it takes about a second, so a process of its own does that when the document is first asked for.
    """

    _written: asyncio.Future[bytes] | None = None

    def setup(self) -> None:
        """Add the route of the document in front of FastAPI's own, which would make it in the event loop."""
        self.add_route(self.openapi_url or "", self._answer, include_in_schema=False)
        super().setup()

    async def _answer(self, request: Request) -> Response:
        check_accept(",".join(request.headers.getlist("accept")), ())
        if self._written is None or (self._written.done() and self._written.exception() is not None):
            self._written = asyncio.ensure_future(_write())
        document = await asyncio.shield(self._written)
        servers = [{"url": request.app.state.context.urls.base_url(request.scope)}]
        head = b'{"servers": ' + json.dumps(servers).encode() + b", "
        return Response(head + document[1:], media_type="application/json")

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                description=self.description,
                routes=[
                    *self.routes,
                    *_predictions().routes,
                    *_models().routes,
                    *_audio().routes,
                    *_inference().routes,
                ],
            )
            document["components"]["securitySchemes"] = _SECURITY
            document["security"] = [{name: []} for name in _SECURITY]
            self.openapi_schema = document
        return self.openapi_schema


async def _write() -> bytes:
    command = (sys.executable, "-P", "-m", "openlaunch.server.control.write_openapi")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    document, _ = await process.communicate()
    if process.returncode:
        raise ServerError("the OpenAPI document could not be made; the server's log has the traceback")
    return document
