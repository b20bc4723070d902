"""A function in, an endpoint out."""

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from pydantic import BaseModel

from openlaunch.client.deployable import check_functions, check_schema_fits
from openlaunch.client.effects import Flow, takes_owner, work
from openlaunch.client.models import ModelEndpoint, changes_between, differences
from openlaunch.client.operations import bundles, endpoints
from openlaunch.client.packing.callables import pack_callables, python_version
from openlaunch.client.packing.documents import pack_schemas, without_json
from openlaunch.client.packing.interface import interface_of, made_fields, made_types
from openlaunch.client.packing.large_values import large_values
from openlaunch.client.progress import StatusLine
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import APIError, ConnectionFailed, PayloadTooLarge, ServerError
from openlaunch.wire.bundles import ModelBundleResponse
from openlaunch.wire.endpoints import EndpointStatus, EndpointType, UpdateModelEndpointRequest
from openlaunch.wire.keywords import DEFAULTS, DEPLOY_DEFAULTS
from openlaunch_worker.shapes import FIELDS, ITEM, TAKES, shape_of

log = logging.getLogger(__name__)

DEPLOY_SECONDS = 600.0

_PARTS = ("code", "requirements", "app_config", "request_schema", "response_schema")
_FINGERPRINT = "deployed"
"""The key in a bundle's metadata of what `deploy` compares the next one with."""


@takes_owner("name")
def deploy(
    fn: Callable[..., Any],
    *,
    name: str,
    endpoint_type: str | None = None,
    load_model_fn: Callable[..., Any] | None = None,
    health_fn: Callable[..., Any] | None = None,
    shutdown_fn: Callable[..., Any] | None = None,
    requirements: list[str] | None = None,
    wait: bool = True,
    timeout: float = DEPLOY_SECONDS,
    on_status: endpoints.StatusCallback | None = None,
    show_progress: bool | None = None,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    check_types: bool = True,
    app_config: dict[str, Any] | None = None,
    code_dir: str | Path | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    reset: bool = False,
    **settings: Unpack[endpoints.Settings],
) -> Flow[ModelEndpoint]:
    """Make a bundle of a predict function, create or update the endpoint of this name, and wait for it.

    By default a worker runs one call of a plain function or generator at a time (`per_worker=1`), and there are as
    many workers as calls, up to 10 and as far as the machine has room (`max_workers=10`, and `cpus=0.25`,
    `memory="4Gi"` for each). A greater `per_worker` runs the function in that many threads, which share one model.
    Calls of an `async def` function share one event loop: 10 at a time (`per_worker=10`).

    An endpoint that exists keeps all settings that are not given, its type, and its requirements. The functions, the
    schemas and `app_config` belong together, and are replaced together. `changes` of what is returned lists what is
    different now. Where nothing is, no worker is replaced.

    Args:
        fn: called with each request's args as keywords; with `load_model_fn`, the model comes first. With a
            `max_batch_size`, it is called with a list of several requests' args, and returns a list; where the
            items of the list are annotated as arrays, files or classes with fields, it gets those.
        name: of the endpoint and of the bundle.
        endpoint_type: "sync", "async" or "streaming"; by default streaming for a generator function, else
            sync.
        load_model_fn: called once in each worker, with the `app_config` where there is one.
        health_fn: called in each worker before it serves and every `health_interval` seconds, with the model where
            there is a `load_model_fn`. A worker in which it raises, returns something false other than None, or
            takes longer than `health_timeout` gets no further requests, and is replaced.
        shutdown_fn: called before a worker ends, as `health_fn` is, for at most `shutdown_timeout` seconds.
        requirements: as for pip, such as `numpy>=2`; [] for none.
        wait: whether to wait until the endpoint is READY.
        timeout: seconds to wait.
        on_status: called with the endpoint at each change of its status or reason, such as the seconds of a build.
        show_progress: whether a line on stderr says how the endpoint stands meanwhile, unless `on_status` does; by
            default on a terminal and in a notebook.
        request_schema: a pydantic model; predictions whose args do not fit are refused. By default, the annotations
            of `fn` say what fits, and it gets what they name.
        response_schema: a pydantic model of what `fn` returns; by default, its annotation says that.
        check_types: whether values have to fit the annotations; without, those are a description.
        app_config: given to `load_model_fn`.
        code_dir: a folder that goes along, in which workers run, such as "."; not what git ignores. The modules
            that you wrote go along without it.
        include: patterns as in a .gitignore, such as "*.json", of the files of `code_dir` that go along beside
            Python files; all files by default. Alone, it is for the current folder.
        exclude: patterns of files that stay behind.
        reset: whether to set all that is not given to its default, in place of keeping it.
        **settings: of the endpoint, such as `cpus` and `min_workers`;
            `openlaunch.wire.keywords.EndpointKeywords` describes them.

    Raises:
        TypeError: a setting is unknown.
        BundleError: `fn` is not a function, or can't be packed; the message says what can't go along and where
            it is.
        Unprocessable: a setting is not allowed.
        Conflict: there is an endpoint of this name and of another type.
        EndpointFailed: the endpoint did not become READY; the message has the reason.
        WaitTimeout: it is not READY after `timeout` seconds; it keeps running.
    """
    check_seconds(timeout)
    existing, code, creation, changes = yield from _prepared(
        fn,
        name=name,
        endpoint_type=endpoint_type,
        load_model_fn=load_model_fn,
        health_fn=health_fn,
        shutdown_fn=shutdown_fn,
        requirements=requirements,
        request_schema=request_schema,
        response_schema=response_schema,
        check_types=check_types,
        app_config=app_config,
        code_dir=code_dir,
        include=include,
        exclude=exclude,
        reset=reset,
        settings=settings,
    )
    if existing is None:
        bundle_id = yield from _registered(name, code)
        creating = endpoints.create(creation | {"model_bundle_id": bundle_id})
        endpoint = yield from _or_without(bundle_id, creating)
    else:
        endpoint = yield from _update(name, existing, code, changes)
    if wait:
        with StatusLine(show_progress) as line:
            endpoint = yield from endpoints.wait_until_ready(endpoint, timeout, on_status or line.show)
    if existing is not None:
        endpoint.changes = [*existing.changed_parts(code), *changes_between(existing.endpoint, endpoint)]
        log.info("deployed %s: %s", name, ", ".join(endpoint.changes) or "nothing has changed")
    return endpoint


@takes_owner("name")
def changes_of_deploy(
    fn: Callable[..., Any], *, name: str, **keywords: Any
) -> Flow[tuple[ModelEndpoint | None, list[str]]]:
    """Return the endpoint that `deploy` with `reset` would change, or None, and what would be different."""
    own = set(inspect.signature(_prepared).parameters)
    settings = {key: value for key, value in keywords.items() if key not in own}
    given = {key: value for key, value in keywords.items() if key in own}
    found = yield from _prepared(fn, name=name, settings=settings, reset=True, **given)
    existing, code, creation, _ = found
    if existing is None:
        return None, []
    parts = existing.changed_parts(code)
    return existing.endpoint, [*parts, *differences(existing.endpoint, creation)]


class _Code(NamedTuple):
    """What a bundle is made of, and a digest of each part."""

    flavor: dict[str, Any]
    values: dict[str, Any]
    data: bytes
    fingerprint: dict[str, Any]
    functions: dict[str, Callable[..., Any]]


class _Existing(NamedTuple):
    """The endpoint of the name, and the bundle that it is to serve."""

    endpoint: ModelEndpoint
    bundle: ModelBundleResponse

    @property
    def fingerprint(self) -> dict[str, Any]:
        found = self.bundle.metadata.get(_FINGERPRINT)
        return found if isinstance(found, dict) else {}

    def requirements(self) -> Flow[list[str]]:
        """Get those of the bundle that serves; none where none could be loaded, for which they may be the reason."""
        endpoint, bundle = self
        if endpoint.serving_bundle_id not in (None, bundle.id):
            bundle = yield from bundles.get_model_bundle_v2(str(endpoint.serving_bundle_id))
        elif endpoint.status is EndpointStatus.UPDATE_FAILED:
            return []
        return list(getattr(bundle.flavor, "requirements", []))

    def changed_parts(self, code: _Code) -> list[str]:
        """Name what is different in a bundle of this code."""
        before = self.fingerprint
        return [part for part in _PARTS if before.get(part) != code.fingerprint[part]]


class _Prepared(NamedTuple):
    """What a deploy goes by: what there is, the code, and the bodies that create or change the endpoint."""

    existing: "_Existing | None"
    code: _Code
    creation: dict[str, Any]
    changes: dict[str, Any]


def _prepared(
    fn: Callable[..., Any],
    *,
    name: str,
    endpoint_type: str | None = None,
    load_model_fn: Callable[..., Any] | None = None,
    health_fn: Callable[..., Any] | None = None,
    shutdown_fn: Callable[..., Any] | None = None,
    requirements: list[str] | None = None,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    check_types: bool = True,
    app_config: dict[str, Any] | None = None,
    code_dir: str | Path | None = None,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    reset: bool = False,
    settings: Any,
) -> Flow[_Prepared]:
    """Find the endpoint, and pack the code; nothing is changed."""
    shape = check_functions(fn, load_model_fn, endpoint_type, health_fn, shutdown_fn)
    kind = endpoint_type or ("streaming" if shape.yields else "sync")
    defaults = DEPLOY_DEFAULTS | ({"per_worker": DEFAULTS["per_worker"]} if shape.on_loop else {})
    # A bad setting is found before a bundle is made for nothing.
    creation = endpoints.creation(name, kind, settings, defaults)
    changes = _resetting(creation) if reset else endpoints.update_body(settings)
    existing = yield from _find(name)
    if existing is not None:
        _check_type(existing.endpoint, kind, endpoint_type)
        if requirements is None and not reset:
            requirements = yield from existing.requirements()
    batches = _batches(settings, None if existing is None or reset else existing.endpoint)
    interface = interface_of(fn, has_model=load_model_fn is not None, batches=batches)
    values = {
        "request_schema": request_schema or interface,
        "response_schema": response_schema or interface,
        "check_types": check_types,
        "app_config": app_config,
    }
    if request_schema is None:
        for why in (*interface.unread, *without_json(interface)):
            log.warning("%s; the function gets what JSON has", why)
    elif not batches and inspect.isclass(request_schema) and issubclass(request_schema, BaseModel):
        check_schema_fits(fn, request_schema, has_model=load_model_fn is not None)
    takes = made_types(interface, of_request=request_schema is None)
    functions = loaders(fn, load_model_fn, takes, interface.item if request_schema is None else None)
    hooks = {
        "health_fn": _hook(health_fn, has_model=load_model_fn is not None),
        "shutdown_fn": _hook(shutdown_fn, has_model=load_model_fn is not None),
    }
    pack = partial(pack_callables, *functions, code_dir, include, exclude, hooks)
    code = yield from _pack(name, functions, pack, requirements, values)
    code.fingerprint["shares_loop"] = shape.on_loop
    code.flavor["is_generator"] = shape.yields
    code.flavor["takes_context"] = interface.context is not None
    return _Prepared(existing, code, creation, changes)


def _find(name: str) -> Flow[_Existing | None]:
    endpoint = yield from endpoints.find(name)
    if endpoint is None or endpoint.bundle_id is None:
        return None
    return _Existing(endpoint, (yield from bundles.get_model_bundle_v2(endpoint.bundle_id)))


def _check_type(endpoint: ModelEndpoint, kind: str, asked: str | None) -> None:
    """Let a function that returns stay behind a queue where no type is asked for."""
    if asked is not None or kind != "sync" or endpoint.endpoint_type is not EndpointType.ASYNC:
        endpoints.check_type(endpoint, kind)


def _pack(
    name: str,
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    pack: Callable[[], bytes],
    requirements: list[str] | None,
    values: dict[str, Any],
) -> Flow[_Code]:
    values = {key: value for key, value in values.items() if value is not None}
    load_model, load_predict = functions
    flavor = bundles.flavor_of_callables(load_predict, load_model, requirements, values)
    bundles.checked_name_and_flavor(name, flavor, values)
    data = yield from work(pack)
    check = values["check_types"]
    parts = {
        "code": [hashlib.sha256(data).hexdigest(), python_version()],
        "requirements": flavor["requirements"],
        "app_config": flavor["app_config"],
        "request_schema": pack_schemas(values.get("request_schema"), None, checked=check).decode(),
        "response_schema": pack_schemas(None, values.get("response_schema"), checked=check).decode(),
    }
    fingerprint: dict[str, Any] = {part: _digest(parts[part]) for part in _PARTS}
    return _Code(
        flavor, values, data, fingerprint, {"load_model_fn": load_model, "load_predict_fn": load_predict}
    )


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def _registered(name: str, code: _Code) -> Flow[str]:
    values = code.values | {"metadata": {_FINGERPRINT: code.fingerprint}}
    try:
        return (yield from bundles.register(name, code.flavor, values, code.data)).model_bundle_id
    except PayloadTooLarge as error:
        if large := large_values(code.functions):
            raise PayloadTooLarge(
                f"{error}; the bundle has {len(code.data)} bytes, of which the most are {large}: make large "
                "values in load_model_fn, or have it read them"
            ) from error
        raise


def _update(name: str, existing: _Existing, code: _Code, changes: dict[str, Any]) -> Flow[ModelEndpoint]:
    """Change what is different; a bundle whose update failed is tried again."""
    endpoint = existing.endpoint
    if existing.fingerprint != code.fingerprint:
        bundle_id = yield from _registered(name, code)
        changes = _alone(existing, code) | changes | {"model_bundle_id": bundle_id}
        return (yield from _or_without(bundle_id, endpoints.update(endpoint, changes)))
    elif endpoint.status is EndpointStatus.UPDATE_FAILED:
        changes = changes | {"model_bundle_id": endpoint.bundle_id}
    return (yield from endpoints.update(endpoint, changes)) if changes else endpoint


def _or_without(bundle_id: str, change: Flow[ModelEndpoint]) -> Flow[ModelEndpoint]:
    """Bring a change about; where it is refused, delete the bundle that was made for it."""
    try:
        return (yield from change)
    except APIError as refusal:
        if refusal.status < ServerError.status:
            with suppress(APIError, ConnectionFailed):
                yield from bundles.delete_model_bundle(bundle_id)
        raise


def _alone(existing: _Existing, code: _Code) -> dict[str, int]:
    """Give what keeps calls that shared a loop from sharing a model in threads, which nobody has asked for."""
    state = existing.endpoint.deployment_state
    if state is None or code.fingerprint["shares_loop"] or not existing.fingerprint.get("shares_loop"):
        return {}
    alone = {"per_worker": 1}
    if state.concurrent_requests_per_worker != state.per_worker:
        alone["concurrent_requests_per_worker"] = 1
    return alone


def _resetting(creation: dict[str, Any]) -> dict[str, Any]:
    known = UpdateModelEndpointRequest.model_fields.keys() - {"model_bundle_id"}
    return {name: value for name, value in creation.items() if name in known} | {"reset": True}


def _batches(settings: Mapping[str, Any], existing: ModelEndpoint | None) -> bool:
    """Return whether the function is called with lists of inputs."""
    size = settings.get("max_batch_size")
    if size is None and existing is not None and (state := existing.deployment_state) is not None:
        size = state.max_batch_size
    return bool(size)


def loaders(
    fn: Callable[..., Any],
    load_model_fn: Callable[..., Any] | None,
    takes: dict[str, Any] | None = None,
    item: Any = None,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pair of functions that a bundle is made of; a worker makes the args of the types in `takes`.

    Of the args it makes the `item` of a function that batches.

    They are made here, inside a function, so that they go along by value: workers do not have this module.
    `for_thread` says that `fn` is called in a thread, where the model is then loaded too.
    """

    def load_model(*app_config: Any) -> Any:
        return None if load_model_fn is None else load_model_fn(*app_config)

    vars(load_model)["for_thread"] = not shape_of(fn).on_loop
    fields = made_fields(takes or {})

    def load_predict(*config_and_model: Any) -> Callable[..., Any]:
        predict = fn if load_model_fn is None else partial(fn, config_and_model[-1])
        if takes or item is not None:
            predict = partial(predict)
            vars(predict)[TAKES] = takes or {}
            vars(predict)[FIELDS] = fields
            vars(predict)[ITEM] = item
        return predict

    return load_model, load_predict


def _hook(hook: Callable[..., Any] | None, *, has_model: bool) -> Callable[..., Any] | None:
    """Return what a worker calls with the model for a hook, which may want none: there is none without a loader."""
    if hook is None or has_model:
        return hook

    def without_model(_: Any) -> Any:
        return hook()

    return without_model
