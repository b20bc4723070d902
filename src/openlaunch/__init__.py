"""Turn a Python function into a production model endpoint.

::

    import openlaunch

    client = openlaunch.LaunchClient()
    endpoint = client.deploy(lambda x: 2 * x, name="double")
    response = endpoint.predict(openlaunch.EndpointRequest(args={"x": 21}))
    print(response.value)

The errors are in `openlaunch.errors`, the awaitable client is `openlaunch.aio`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openlaunch import errors
    from openlaunch.client.client import LaunchClient
    from openlaunch.client.endpoints import AsyncEndpoint, Endpoint, StreamingEndpoint, SyncEndpoint
    from openlaunch.client.local import local
    from openlaunch.client.models import ModelBundle, ModelEndpoint, PostInferenceHooks
    from openlaunch.client.predictions import EndpointRequest
    from openlaunch.client.responses import (
        AsyncEndpointBatchResponse,
        EndpointResponse,
        EndpointResponseFuture,
        EndpointResponseStream,
        as_completed,
    )
    from openlaunch.errors import OpenlaunchError
    from openlaunch_worker.calling import CallFailed, endpoint
    from openlaunch_worker.context import Context
    from openlaunch_worker.files import DType, File, Shape

__all__ = [
    "AsyncEndpoint",
    "AsyncEndpointBatchResponse",
    "CallFailed",
    "Context",
    "DType",
    "Endpoint",
    "EndpointRequest",
    "EndpointResponse",
    "EndpointResponseFuture",
    "EndpointResponseStream",
    "File",
    "LaunchClient",
    "ModelBundle",
    "ModelEndpoint",
    "OpenlaunchError",
    "PostInferenceHooks",
    "Shape",
    "StreamingEndpoint",
    "SyncEndpoint",
    "aio",
    "as_completed",
    "endpoint",
    "errors",
    "local",
]

# Loaded when they are first used, so that `import openlaunch` costs next to nothing.
_NAMES = {
    "client.client": ["LaunchClient"],
    "client.endpoints": ["AsyncEndpoint", "Endpoint", "StreamingEndpoint", "SyncEndpoint"],
    "client.local": ["local"],
    "client.models": ["ModelBundle", "ModelEndpoint", "PostInferenceHooks"],
    "client.predictions": ["EndpointRequest"],
    "client.responses": [
        *("AsyncEndpointBatchResponse", "EndpointResponse", "EndpointResponseFuture"),
        *("EndpointResponseStream", "as_completed"),
    ],
    "errors": ["OpenlaunchError"],
}
_HOMES = {name: f"openlaunch.{module}" for module, names in _NAMES.items() for name in names}
_HOMES |= dict.fromkeys(("DType", "File", "Shape"), "openlaunch_worker.files")
_HOMES["Context"] = "openlaunch_worker.context"
_HOMES |= dict.fromkeys(("CallFailed", "endpoint"), "openlaunch_worker.calling")
_MODULES = {"aio", "errors"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"openlaunch.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'openlaunch' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
