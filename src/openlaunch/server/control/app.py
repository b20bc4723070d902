"""The HTTP application behind the predict routes, with FastAPI."""

import logging
import traceback
from contextlib import suppress
from difflib import get_close_matches
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from openlaunch.errors import (
    APIError,
    MethodNotAllowed,
    NotFound,
    ServerError,
    Unprocessable,
    class_for_status,
)
from openlaunch.server.asgi import (
    FAULT,
    HOT_METHODS,
    App,
    Scope,
    header,
    problem_headers,
    request_id_of,
    server_fault,
)
from openlaunch.server.control import api_pages
from openlaunch.server.control.context import Context
from openlaunch.server.control.guard import Guard
from openlaunch.server.control.openapi import ControlPlane
from openlaunch.server.control.routes import (
    artifacts,
    audit,
    batch_completions,
    batch_jobs,
    bundles,
    bundles_v1,
    by_name,
    docs,
    endpoints,
    environments,
    files,
    health,
    image_jobs,
    keys,
    llm_endpoints,
    metrics,
    model_batches,
    nodes,
    quotas,
    secrets,
    storage,
    subscriptions,
    tasks,
    triggers,
)
from openlaunch.server.control.to_leader import ToLeader
from openlaunch.wire import routes
from openlaunch.wire.misfits import said
from openlaunch.wire.openai_errors import described
from openlaunch.wire.problems import CONTENT_TYPE, to_problem

log = logging.getLogger(__name__)

OPENAI = (routes.FILES, routes.MODEL_BATCHES, routes.FINE_TUNING, routes.RESPONSES, routes.CONVERSATIONS)
"""Where the errors are those of OpenAI's API too."""

NO_ROUTE = "http_error"
"""The code where nothing is served. OpenAI's clients show why only where the error has the shape of theirs."""

MODEL_PATHS = sorted(
    {routes.MODELS, routes.FILES, routes.MODEL_BATCHES, *routes.MODEL_ROUTES, *routes.MODEL_FORMS}
)
"""Paths with which an unknown one is compared."""

MAX_PATH = 60
"""Characters of a path that are compared."""

MAX_ERRORS = 20
"""Limit on the errors of one request that its answer lists."""


def guarded_control_plane(context: Context, *more: APIRouter) -> App:
    """Make the control plane, with `more` routes that are not in its document, behind what holds for all of it."""
    api = control_plane(context, *more)
    # In the thread that this runs in: FastAPI makes most of a route when it first looks for one, 0.1 s for all.
    _allowed_methods(Request({"type": "http", "path": "/", "headers": [], "app": api}))
    guarded = Guard(context.audit, api)
    if context.reach is None:
        return guarded

    def knows(scope: Scope) -> bool:
        with suppress(APIError):
            return bool(context.keyring.authenticate(header(scope, b"authorization"), scope["headers"]))
        return False

    return ToLeader(lambda: context.controller.leads, knows, context.reach, guarded)


def control_plane(context: Context, *more: APIRouter) -> FastAPI:
    """Make the routes for all but predictions; `/docs` shows them.

    FastAPI looks at one after the other: what open pages and scrapes ask for again and again is first.
    """
    api = ControlPlane(
        title="Openlaunch",
        version=version("openlaunch"),
        description="Model endpoints from Python functions.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the server as it sees itself, behind whatever proxy
    )
    api.state.context = context
    for router in (metrics.router(context), *more):
        api.include_router(router)
    models = (health, bundles, bundles_v1, endpoints, tasks, docs, by_name)
    jobs = (batch_jobs, model_batches, batch_completions, llm_endpoints, image_jobs, triggers)
    others = (
        *jobs,
        files,
        keys,
        quotas,
        secrets,
        audit,
        artifacts,
        storage,
        environments,
        nodes,
        subscriptions,
    )
    for part in (*models, *others):
        api.include_router(part.router(context))
    api.include_router(api_pages.router())
    for kind in (APIError, HTTPException, RequestValidationError, Exception):
        api.add_exception_handler(kind, _on_error)
    api.add_exception_handler(ValidationError, _on_misfit)
    return api


async def _on_error(request: Request, error: Exception) -> Response:
    if (
        request.method == "OPTIONS"
        and isinstance(error, HTTPException)
        and (found := _allowed_methods(request))
    ):
        return Response(status_code=204, headers={"Allow": ", ".join([*found, "OPTIONS"])})
    return _answer(request, _api_error(request, error))


def _answer(request: Request, problem: APIError) -> JSONResponse:
    request_id = problem.request_id or request_id_of(request.scope)
    context: Context = request.app.state.context
    context.counts.refused(problem)
    document = to_problem(problem, request_id)
    if (
        request.url.path.startswith(OPENAI)
        or problem.code == NO_ROUTE
        or isinstance(problem, MethodNotAllowed)
    ):
        document["error"] = described(problem)
    return JSONResponse(
        document,
        problem.status,
        problem_headers(problem, request_id),
        media_type=CONTENT_TYPE,
    )


async def _on_misfit(request: Request, error: Exception) -> JSONResponse:
    """Answer 500 without the error's own text, which has values of the answer in it that may be secret."""
    assert isinstance(error, ValidationError)
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    frames = "".join(traceback.format_tb(error.__traceback__))
    request_id = request_id_of(request.scope)
    log.error("%s %s failed (%s): %s\n%s", request.method, request.url.path, request_id, problems, frames)
    return _answer(request, ServerError(FAULT, request_id=request_id))


def _api_error(request: Request, error: Exception) -> APIError:
    if isinstance(error, APIError):
        return error
    if isinstance(error, RequestValidationError):
        found = error.errors()[:MAX_ERRORS]
        fields = [{"loc": e["loc"], "msg": said(e), "type": e["type"]} for e in found]
        return Unprocessable("a field of the request does not fit", errors=fields)
    if isinstance(error, HTTPException):
        path = f"{request.method} {request.url.path}"
        allowed = _allowed_methods(request) if error.status_code in (404, 405) else []
        if allowed and request.method not in allowed:
            wrong = MethodNotAllowed(f"{path}: this path takes {' and '.join(allowed)}")
            wrong.allowed = allowed
            return wrong
        near = get_close_matches(request.url.path[:MAX_PATH], MODEL_PATHS, cutoff=0.8)
        if error.status_code == NotFound.status:
            hint = f"near paths: {', '.join(near)}" if near else "/docs shows what is"
            if not near and request.url.path.startswith(
                "/v1/v1/"
            ):  # clients of models have one /v1 in their URL
                hint = "leave /v1 out of the server's URL"
            return NotFound(f"nothing is served at {path}; {hint}", code=NO_ROUTE)
        return class_for_status(error.status_code)(f"{error.detail}: {path}", code=NO_ROUTE)
    return server_fault(log, error, request_id_of(request.scope))


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods that the path takes, here and in the gateway."""
    found = set(request.scope.get(HOT_METHODS, ()))
    path = {
        "type": "http",
        "path": request.scope["path"],
        "root_path": "",
        "headers": [],
        "query_string": b"",
    }
    routes = [r for r in request.app.routes if r.matches({**path, "method": ""})[0] is not Match.NONE]
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if routes else ():
        if any(route.matches({**path, "method": method})[0] is Match.FULL for route in routes):
            found |= {method, "HEAD"} if method == "GET" else {method}
    return sorted(found)
