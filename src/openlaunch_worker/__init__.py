"""The worker runtime: it loads one bundle and serves its predictions.

It runs inside the bundle's own environment, so it needs the standard library and cloudpickle only, and it
imports nothing of `openlaunch`.
"""

from typing import TYPE_CHECKING, Any

from openlaunch_worker.failures import InvalidInput as InvalidInput

if TYPE_CHECKING:
    from openlaunch_worker.context import Context as Context


def __getattr__(name: str) -> Any:
    if name != "Context":
        raise AttributeError(f"module 'openlaunch_worker' has no attribute {name!r}")
    from openlaunch_worker.context import Context  # late, because a sandbox's launcher has no use for it

    return Context
