"""A function in, an endpoint out."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

from pydantic import BaseModel

from openlaunch.client.effects import Flow
from openlaunch.client.models import ModelEndpoint
from openlaunch.client.operations import bundles, endpoints

DEPLOY_SECONDS = 600.0


def deploy(
    fn: Callable[..., Any],
    *,
    name: str,
    endpoint_type: str | None = None,
    load_model_fn: Callable[..., Any] | None = None,
    requirements: list[str] | None = None,
    wait: bool = True,
    timeout: float = DEPLOY_SECONDS,
    on_status: endpoints.StatusCallback | None = None,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    app_config: dict[str, Any] | None = None,
    **settings: Unpack[endpoints.Settings],
) -> Flow[ModelEndpoint]:
    """Make a bundle of a predict function, create or update the endpoint of this name, and wait for it.

    Args:
        fn: called with each request's args as keywords; with `load_model_fn`, the model comes first. With a
            `max_batch_size`, it is called with a list of several requests' args, and returns a list.
        name: of the endpoint and of the bundle.
        endpoint_type: "sync", "async" or "streaming"; by default streaming for a generator function, else
            sync.
        load_model_fn: called once in each worker, with the `app_config` where there is one.
        requirements: as for pip, such as `numpy>=2`.
        wait: whether to wait until the endpoint is READY.
        timeout: seconds to wait.
        on_status: called with the endpoint at each change of its status or reason.
        request_schema: a pydantic model; predictions whose args do not fit are refused.
        response_schema: a pydantic model of what `fn` returns.
        app_config: given to `load_model_fn`.
        **settings: of the endpoint, such as `cpus` and `min_workers`;
            `openlaunch.wire.keywords.EndpointKeywords` describes them.

    Raises:
        TypeError: a setting is unknown.
        BundleError: the function can't be pickled.
        Unprocessable: a setting is not allowed.
        EndpointFailed: the endpoint did not become READY; the message has the reason.
        WaitTimeout: it is not READY after `timeout` seconds; it keeps running.
    """
    streams = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    kind = endpoint_type or ("streaming" if streams else "sync")
    endpoints.creation(name, kind, settings)  # finds a bad setting before a bundle is made for nothing
    load_model, load_predict = loaders(fn, load_model_fn)
    bundle = yield from bundles.create_model_bundle_from_callable_v2(
        model_bundle_name=name,
        load_predict_fn=load_predict,
        load_model_fn=load_model,
        request_schema=request_schema,
        response_schema=response_schema,
        requirements=requirements,
        app_config=app_config,
    )
    endpoint = yield from endpoints.create_model_endpoint(
        endpoint_name=name, model_bundle=bundle, endpoint_type=kind, update_if_exists=True, **settings
    )
    if wait:
        endpoint = yield from endpoints.wait_until_ready(endpoint, timeout, on_status)
    return endpoint


def loaders(
    fn: Callable[..., Any], load_model_fn: Callable[..., Any] | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the pair of functions that a bundle is made of.

    They are made here, inside a function, so that they go along by value: workers do not have this module.
    """

    def load_model(*app_config: Any) -> Any:
        return None if load_model_fn is None else load_model_fn(*app_config)

    def load_predict(*config_and_model: Any) -> Callable[..., Any]:
        return fn if load_model_fn is None else partial(fn, config_and_model[-1])

    return load_model, load_predict
