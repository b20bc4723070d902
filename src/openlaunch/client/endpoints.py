"""Endpoints of the blocking client."""

import warnings
from collections.abc import Sequence
from inspect import iscoroutinefunction
from typing import Any, ClassVar, Self

from openlaunch.client.models import ModelEndpoint
from openlaunch.client.operations import endpoints as operations
from openlaunch.client.operations import predictions
from openlaunch.client.operations.deploy import DEPLOY_SECONDS
from openlaunch.client.predictions import EndpointRequest
from openlaunch.client.responses import (
    AsyncEndpointBatchResponse,
    EndpointResponse,
    EndpointResponseFuture,
    EndpointResponseStream,
)
from openlaunch.client.surface import BlockingClient
from openlaunch.client.waiting import distinct_ids
from openlaunch.wire.endpoints import DeploymentState, EndpointType, ResourceState


class EndpointFields:
    """What endpoints of both clients share."""

    _type: ClassVar[EndpointType]
    _is_awaitable: ClassVar[bool] = False

    def __init__(self, model_endpoint: ModelEndpoint, client: Any) -> None:
        given: object = model_endpoint
        if not isinstance(given, ModelEndpoint):
            needed = 'a ModelEndpoint is needed, such as ModelEndpoint(name="double")'
            raise TypeError(f"model_endpoint is {given!r:.100}, {needed}")
        run = getattr(client, "run", None)
        if not callable(run) or iscoroutinefunction(run) is not self._is_awaitable:
            needed = f"openlaunch{'.aio' if self._is_awaitable else ''}.LaunchClient"
            raise TypeError(f"client is {client!r:.100}, an {needed} is needed")
        self.model_endpoint = model_endpoint
        self.client = client

    def __repr__(self) -> str:
        status = self.model_endpoint.status
        return f"{type(self).__name__}(name={self.name!r}, status={status and status.value!r})"

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.model_endpoint.name

    @property
    def changes(self) -> list[str] | None:
        """What `deploy` changed, such as "cpus: 1 → 2"; None where nothing was deployed, or the endpoint is new."""
        return self.model_endpoint.changes


class Endpoint(EndpointFields):
    """A model endpoint of any type; `model_endpoint` is what the server last said of it."""

    client: BlockingClient

    def _looked_up(self) -> ModelEndpoint:
        """Return the endpoint with its id, which one made by hand does not have before its first use."""
        if not self.model_endpoint.id:
            self.model_endpoint = self.client.run(operations.looked_up(self.model_endpoint, self._type))
        return self.model_endpoint

    def refresh(self) -> Self:
        """Fetch the endpoint's state from the server."""
        self.model_endpoint = self.client.run(operations.refreshed(self.model_endpoint))
        return self

    def status(self) -> str:
        """Fetch the endpoint's status, such as READY, UPDATE_IN_PROGRESS or UPDATE_FAILED."""
        return self.refresh().model_endpoint.status.value

    def resource_settings(self) -> ResourceState | None:
        """Fetch the resources of each worker."""
        return self.refresh().model_endpoint.resource_state

    def worker_settings(self) -> DeploymentState | None:
        """Fetch the limits and the current number of workers."""
        return self.refresh().model_endpoint.deployment_state

    resource_state = resource_settings
    deployment_state = worker_settings

    def wait_until_ready(
        self, timeout: float = DEPLOY_SECONDS, on_status: operations.StatusCallback | None = None
    ) -> Self:
        """Wait until the endpoint is READY; `on_status` is called at each change of its status or reason.

        Raises:
            EndpointFailed: it became UPDATE_FAILED; the message has the reason.
            WaitTimeout: it is not READY after `timeout` seconds; it keeps running.
        """
        flow = operations.wait_until_ready(self.model_endpoint, timeout, on_status)
        self.model_endpoint = self.client.run(flow)
        return self


class SyncEndpoint(Endpoint):
    """An endpoint whose predictions are answered at once."""

    _type = EndpointType.SYNC

    def predict(self, request: EndpointRequest, *, timeout: float | None = None) -> EndpointResponse:
        """Run a prediction and wait for its response.

        Args:
            request: what to predict.
            timeout: seconds after which the server gives up; None: its own limit.

        Raises:
            Unprocessable: the args do not fit the bundle's request schema.
            TooManyRequests: the endpoint's queue is full, also after some retries.
            DeadlineExceeded: time is over.
            WorkerDied: the worker that ran it died.
        """
        endpoint = self._looked_up()
        flow = predictions.predict_sync(endpoint.id, request, timeout, endpoint.timeout_seconds)
        return EndpointResponse.of(self.client, self.client.run(flow), request.return_pickled)


class StreamingEndpoint(Endpoint):
    """An endpoint whose predictions are answered item by item."""

    _type = EndpointType.STREAMING

    def predict(
        self, request: EndpointRequest, *, timeout: float | None = None, resume: bool = True
    ) -> EndpointResponseStream:
        """Run a prediction and return its items as a stream; raises what a sync prediction does.

        Args:
            request: what to predict.
            timeout: seconds after which the server gives up; None: its own limit.
            resume: whether to resume the stream on another connection when its own breaks. The model then works on
                for a bounded time (10 s by default) when this program is killed, in case it comes back.
        """
        endpoint = self._looked_up()
        limit = endpoint.timeout_seconds
        source = predictions.OpenStream(endpoint.id, request, timeout, limit, resume=resume)
        return EndpointResponseStream(self.client, source, self.client.run(source.begin()))


class AsyncEndpoint(Endpoint):
    """An endpoint whose predictions are tasks in a durable queue."""

    _type = EndpointType.ASYNC

    def predict(self, request: EndpointRequest, *, timeout: float | None = None) -> EndpointResponseFuture:
        """Put a task into the queue. It is on the server's disk when this returns.

        Args:
            request: what to predict.
            timeout: seconds that the task may run, once it does; None: the endpoint's limit.

        Raises:
            Unprocessable: the args do not fit the bundle's request schema.
            TooManyRequests: the endpoint's queue is full, also after some retries.
        """
        task_id = self.client.run(predictions.submit(self._looked_up().id, request, timeout))
        return EndpointResponseFuture(self.client, self.name, task_id, request.return_pickled)

    def predict_many(self, requests: Sequence[EndpointRequest]) -> list[EndpointResponseFuture]:
        """Put many tasks into the queue, up to 1,000 with one HTTP request; futures in the same order.

        Raises:
            ValueError: a request has `extra_headers` or an `idempotency_key`.
            Unprocessable: the args of one do not fit; none of its thousand is taken.
            TooManyRequests: the endpoint's queue is full; a note tells how many tasks were taken before.
        """
        task_ids = self.client.run(predictions.submit_many(self._looked_up().id, requests))
        return [
            EndpointResponseFuture(self.client, self.name, task_id, request.return_pickled)
            for request, task_id in zip(requests, task_ids, strict=True)
        ]

    def predict_batch(self, requests: Sequence[EndpointRequest]) -> AsyncEndpointBatchResponse:
        """Put many tasks into the queue. Deprecated: use `predict_many` and `openlaunch.as_completed`.

        Raises:
            ValueError: two requests have the same `request_id`.
        """
        warnings.warn("predict_batch is deprecated: use predict_many", DeprecationWarning, stacklevel=2)
        ids = distinct_ids(requests)
        pickled = {request.request_id for request in requests if request.return_pickled}
        task_ids = self.client.run(predictions.submit_many(self._looked_up().id, requests))
        return AsyncEndpointBatchResponse(
            self.client, self.name, dict(zip(ids, task_ids, strict=True)), pickled
        )


AnyEndpoint = AsyncEndpoint | StreamingEndpoint | SyncEndpoint


def endpoint_of(client: BlockingClient, model_endpoint: ModelEndpoint) -> AnyEndpoint:
    """Make the endpoint object that goes with the endpoint's type."""
    if model_endpoint.endpoint_type is EndpointType.ASYNC:
        return AsyncEndpoint(model_endpoint, client)
    if model_endpoint.endpoint_type is EndpointType.STREAMING:
        return StreamingEndpoint(model_endpoint, client)
    return SyncEndpoint(model_endpoint, client)


def endpoints_of(client: BlockingClient, model_endpoints: list[ModelEndpoint]) -> list[AnyEndpoint]:
    """Make the endpoint objects of a list."""
    return [endpoint_of(client, model_endpoint) for model_endpoint in model_endpoints]
