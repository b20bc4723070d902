"""Language models: from weights to an endpoint that speaks OpenAI."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from openlaunch.client.effects import (
    Flow,
    Request,
    Response,
    asked,
    call,
    document_of,
    json_body,
    takes_owner,
)
from openlaunch.client.engines import DEVELOPMENT, OFFLINE, command_of, engine_of, folder_of, sleeping
from openlaunch.client.lists import check_items
from openlaunch.client.models import ModelEndpoint, differences
from openlaunch.client.operations import bundles, endpoints
from openlaunch.client.progress import StatusLine
from openlaunch.errors import ServerError, Unprocessable
from openlaunch.wire import routes
from openlaunch.wire.bundles import FLAVOR
from openlaunch.wire.keywords import DEFAULTS

LOAD_SECONDS = 1800
"""How long an engine may take to load its model, and `deploy_llm` waits."""

LLM_DEFAULTS = {**DEFAULTS, "per_worker": 4}
DEFAULT_ROUTES = (routes.CHAT_COMPLETIONS, routes.COMPLETIONS, routes.EMBEDDINGS)


@takes_owner("name")
def deploy_llm(
    name: str,
    *,
    model: str,
    engine: str | Sequence[str] = "vllm",
    engine_args: dict[str, Any] | None = None,
    requirements: list[str] | None = None,
    model_routes: Sequence[str] = DEFAULT_ROUTES,
    aliases: Sequence[str] = (),
    healthcheck_route: str = "/health",
    sleeps: bool = False,
    wait: bool = True,
    timeout: float = LOAD_SECONDS,
    on_status: endpoints.StatusCallback | None = None,
    show_progress: bool | None = None,
    **settings: Unpack[endpoints.Settings],
) -> Flow[ModelEndpoint]:
    """Serve a language model as a streaming endpoint that speaks OpenAI, or update the endpoint of this name.

    Clients of OpenAI's API use the server's URL with `/v1`, an API key of this server, and `name` as the model. The
    engine runs without access to model hubs: weights from one are fetched into the cache before it starts. An
    endpoint that exists keeps the settings that are not given, and its workers are replaced only where something is
    different.

    Args:
        name: of the endpoint, of its bundle, and of the model in requests.
        model: the weights: hf://ORG/REPO@REVISION or a file of it, s3://BUCKET/KEY (gs://, az://), https:// of a
            file, or file:///PATH of a file or folder that workers see.
        engine: "llamacpp", "vllm", "sglang", or a command as a list, in which `$MODEL`, `$NAME` and `$PORT` are
            replaced by the path of the weights, the name and the port of 127.0.0.1 to listen on.
        engine_args: of the engine, such as {"max_model_len": 8192}; none with a command.
        requirements: as for pip, such as ["vllm==0.11.0"]; by default the engine's newest release.
        model_routes: that the engine serves.
        aliases: further names of the model, such as those that a program insists on.
        healthcheck_route: that answers once the model is loaded.
        sleeps: whether a worker sleeps while others need its GPUs, by vLLM's routes for that, and does not end. Its
            weights stay in the machine's memory, so `memory` has to be at least their size.
        wait: whether to wait until the endpoint is READY.
        timeout: seconds to wait.
        on_status: called with the endpoint at each change of its status or reason.
        show_progress: whether a line on stderr says how the endpoint stands meanwhile; by default on a terminal and
            in a notebook.
        **settings: of the endpoint, such as `gpus`; `per_worker` is 4 by default;
            `openlaunch.wire.keywords.EndpointKeywords` describes them.

    Raises:
        TypeError: a setting is unknown, or something has another type.
        Unprocessable: the engine, the model or a setting is not allowed.
        Conflict: there is an endpoint of this name and of another type.
        EndpointFailed: the endpoint did not become READY; the message has what the engine printed last.
        WaitTimeout: it is not READY after `timeout` seconds; it keeps running.
    """
    existing, flavor, creation, changes = yield from _prepared(
        name,
        model,
        engine=engine,
        engine_args=engine_args,
        requirements=requirements,
        model_routes=model_routes,
        aliases=aliases,
        healthcheck_route=healthcheck_route,
        sleeps=sleeps,
        **settings,
    )
    if existing is None:
        bundle = yield from bundles.register(name, flavor, {}, b"")
        endpoint = yield from endpoints.create(creation | {"model_bundle_id": bundle.model_bundle_id})
    else:
        endpoint = yield from _update(name, existing, flavor, changes)
    if wait:
        with StatusLine(show_progress) as line:
            endpoint = yield from endpoints.wait_until_ready(endpoint, timeout, on_status or line.show)
    return endpoint


@takes_owner("name")
def changes_of_llm(name: str, *, model: str, **given: Any) -> Flow[tuple[ModelEndpoint | None, list[str]]]:
    """Return the endpoint that `deploy_llm` would change, None for a new one, and what would be different."""
    existing, flavor, creation, changes = yield from _prepared(name, model, **given)
    if existing is None:
        return None, []
    bundle, wanted = yield from _flavors(existing, flavor)
    given = {each: value for each, value in creation.items() if each in changes}
    different = differences(existing, given, among=given)
    return existing, [*(["engine"] if bundle != wanted else []), *different]


def _prepared(
    name: str,
    model: str,
    *,
    engine: str | Sequence[str] = "vllm",
    engine_args: dict[str, Any] | None = None,
    requirements: list[str] | None = None,
    model_routes: Sequence[str] = DEFAULT_ROUTES,
    aliases: Sequence[str] = (),
    healthcheck_route: str = "/health",
    sleeps: bool = False,
    **settings: Unpack[endpoints.Settings],
) -> Flow[tuple[ModelEndpoint | None, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Return the endpoint that is there, the bundle's flavor, and the bodies that create or change an endpoint."""
    _check_types(model, engine, engine_args, requirements, model_routes, aliases)
    chosen = engine_of(engine)
    if sleeps:
        chosen = sleeping(chosen, engine)
    place, fetched = folder_of(model)
    if more := [url for url in fetched if url not in (settings.get("prefetch") or ())]:
        settings["prefetch"] = [*(settings.get("prefetch") or ()), *more]
    flavor = {
        "flavor": "command",
        "command": command_of(chosen, place, name, engine_args or {}),
        "requirements": list(chosen.requirements) if requirements is None else requirements,
        "env": OFFLINE | (DEVELOPMENT if sleeps else {}),
        "predict_route": model_routes[0],
        "streaming_predict_route": model_routes[0],
        "healthcheck_route": healthcheck_route,
        "readiness_initial_delay_seconds": LOAD_SECONDS,
        "openai": {"routes": list(model_routes), "models": list(aliases)},
        "sleep": {} if sleeps else None,
    }
    bundles.checked_name_and_flavor(name, flavor, {})
    creation = endpoints.creation(name, "streaming", settings, LLM_DEFAULTS)
    existing = yield from endpoints.find(name)
    if existing is not None:
        endpoints.check_type(existing, "streaming")
    return existing, flavor, creation, endpoints.update_body(settings)


def _check_types(
    model: object,
    engine: object,
    engine_args: object,
    requirements: object,
    model_routes: object,
    aliases: object,
) -> None:
    """Raise TypeError where something is not what it has to be, and Unprocessable where there is no route."""
    if not isinstance(model, str):
        raise TypeError(f"model is {model!r:.100}: text such as 'file:///models/chat.gguf' is needed")
    if not (engine_args is None or isinstance(engine_args, Mapping)):
        raise TypeError(f"engine_args is {engine_args!r:.100}: a dict such as {{'n_ctx': 4096}} is needed")
    if not isinstance(engine, str):
        command = "['my-engine', '--port', '$PORT']"
        if not engine:
            raise TypeError(
                f"engine is {engine!r}: a name such as 'vllm', or a command such as {command}, is needed"
            )
        check_items("engine", engine, str, command)
    check_items("requirements", requirements, str, "['vllm==0.11.0']")
    check_items("model_routes", model_routes, str, f"['{routes.CHAT_COMPLETIONS}']")
    check_items("aliases", aliases, str, "['gpt-4o']")
    if not model_routes:
        raise Unprocessable(f"model_routes: it is empty: name a route, such as {routes.CHAT_COMPLETIONS}")


def _flavors(existing: ModelEndpoint, flavor: dict[str, Any]) -> Flow[tuple[Any, Any]]:
    """Return the flavor of the bundle that is served, and the one that is wanted."""
    bundle = yield from bundles.get_model_bundle_v2(str(existing.bundle_id))
    wanted = FLAVOR.validate_python(flavor).model_copy(
        update={"python_version": getattr(bundle.flavor, "python_version", None)}  # the server's own
    )
    return bundle.flavor, wanted


def _update(
    name: str, existing: ModelEndpoint, flavor: dict[str, Any], changes: dict[str, Any]
) -> Flow[ModelEndpoint]:
    """Change what is different."""
    now, wanted = yield from _flavors(existing, flavor)
    if now != wanted:
        made = yield from bundles.register(name, flavor, {}, b"")
        changes = changes | {"model_bundle_id": made.model_bundle_id}
    return (yield from endpoints.update(existing, changes)) if changes else existing


def list_llms() -> Flow[list[dict[str, Any]]]:
    """List the models that the key may use: endpoints that speak OpenAI, with `id`, `created` and `owned_by`."""
    listed: list[dict[str, Any]] = yield from asked(
        Request("GET", routes.MODELS, idempotent=True), lambda body: document_of(body)["data"]
    )
    return listed


def chat_llm(
    model: str, messages: list[dict[str, Any]], *, options: dict[str, Any] | None = None
) -> Flow[str]:
    """Have a model answer a chat, and return the text.

    Args:
        model: the endpoint's name.
        messages: of the chat, each with `role` and `content`.
        options: of the request, such as {"max_tokens": 100, "temperature": 0}.

    Raises:
        NotFound: there is no such model; the message has names that are near.
        ServerError: what the engine has answered is not a chat in JSON, as with the option `stream`.
    """
    response = yield from call(_chat(model, messages, options))
    try:
        return str(json.loads(response.body)["choices"][0]["message"]["content"] or "")
    except (ValueError, LookupError, TypeError):
        shown = bytes(response.body[:80])
        raise ServerError(
            f"the model {model!r:.100} has answered with what is not a chat in JSON: it begins with {shown!r}",
            code="engine_failed",
        ) from None


def stream_chat_llm(
    model: str, messages: list[dict[str, Any]], *, options: dict[str, Any] | None = None
) -> Flow[Response]:
    """Have a model answer a chat, and give the texts of the answer as they come.

    The arguments are those of `chat_llm`.

    Raises:
        NotFound: there is no such model; the message has names that are near.
    """
    return (yield from call(_chat(model, messages, (options or {}) | {"stream": True}, stream=True)))


def _chat(
    model: str, messages: list[dict[str, Any]], options: dict[str, Any] | None, *, stream: bool = False
) -> Request:
    body = json_body({"model": model, "messages": messages, **(options or {})})
    return Request("POST", routes.CHAT_COMPLETIONS, body, stream=stream, timeout=LOAD_SECONDS)
