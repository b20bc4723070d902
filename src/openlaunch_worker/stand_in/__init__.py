"""What `import openlaunch` gives in a worker whose environment does not have the client: what models need of it."""

from importlib import import_module
from typing import Any

from openlaunch_worker.calling import CallFailed as CallFailed
from openlaunch_worker.calling import endpoint as endpoint
from openlaunch_worker.context import Context as Context
from openlaunch_worker.files import DType as DType
from openlaunch_worker.files import File as File
from openlaunch_worker.files import Shape as Shape


def __getattr__(name: str) -> Any:
    if name in ("aio", "errors"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"a worker has no openlaunch.{name}: the client is not in its environment; add openlaunch to the bundle's "
        "`requirements`"
    )
