"""The awaitable part of what `import openlaunch` gives in a worker."""

from openlaunch_worker.calling import awaitable_endpoint as endpoint

__all__ = ["endpoint"]
