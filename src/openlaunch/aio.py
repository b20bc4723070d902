"""The awaitable client: the same names as in `openlaunch`, for programs with an event loop.

::

    async with aio.LaunchClient() as client:
        endpoint = await client.get_model_endpoint("double")
        response = await endpoint.predict(EndpointRequest(args={"x": 21}))

The rules are the same too: both clients run the operations of `openlaunch.client.operations`. A client may be used in
several event loops, and has connections of its own in each.
"""

import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from openlaunch.client.chats import AsyncChatStream
from openlaunch.client.deploying import Deploy
from openlaunch.client.drivers import Driver
from openlaunch.client.effects import Flow, Response
from openlaunch.client.endpoints import EndpointFields
from openlaunch.client.logs import AsyncLogStream
from openlaunch.client.loops import PerLoop
from openlaunch.client.models import ModelEndpoint
from openlaunch.client.operation_table import Operations
from openlaunch.client.operations import canaries, endpoint_reports, endpoints, llm, predictions, tasks
from openlaunch.client.operations.deploy import DEPLOY_SECONDS, deploy
from openlaunch.client.predictions import EndpointRequest, NoResponse, Progress, ResponseFields
from openlaunch.client.retry import RetryPolicy
from openlaunch.client.streams import AwaitableStream, Reading
from openlaunch.client.surface import AwaitableClient, awaitable
from openlaunch.client.transport import Target
from openlaunch.client.waiting import BatchFields, FutureFields, Gathering, distinct_ids
from openlaunch.client.watcher import AsyncWatcher
from openlaunch.wire.endpoints import DeploymentState, EndpointType, ResourceState

if TYPE_CHECKING:
    from openlaunch_worker.calling import AwaitableEndpoint

__all__ = [
    "AsyncEndpoint",
    "AsyncEndpointBatchResponse",
    "Endpoint",
    "EndpointRequest",
    "EndpointResponse",
    "EndpointResponseFuture",
    "EndpointResponseStream",
    "LaunchClient",
    "StreamingEndpoint",
    "SyncEndpoint",
    "as_completed",
    "endpoint",
]

T = TypeVar("T")


def endpoint(name: str) -> "AwaitableEndpoint":
    """Return an endpoint to call it from within a worker; see `openlaunch.endpoint`."""
    from openlaunch_worker.calling import awaitable_endpoint  # a client has no use for it

    return awaitable_endpoint(name)


class EndpointResponse(ResponseFields):
    """How a prediction ended; see `openlaunch.EndpointResponse`."""

    client: AwaitableClient
    _downloaded: tuple[Any] | None = None

    @property
    def value(self) -> Any:
        """What the predict function returned, as a Python object.

        Raises:
            PredictionFailed: there is no value; `.traceback` says why.
            ForeignURL: the answer names a pickle that the request did not ask for.
            RuntimeError: it is pickled and has not been downloaded: `await response.load()` first.
        """
        self.raise_for_status()
        if self._downloaded is not None:
            return self._downloaded[0]
        if self._pickle_url() is not None:
            raise RuntimeError(
                "the result is pickled: `await response.load()` downloads it and gives the value"
            )
        return self._json_value()

    async def load(self) -> Any:
        """Return the value; a pickled one is downloaded and unpickled, which runs what the pickle says.

        This happens only if the request had `return_pickled`, and only from the client's own server.

        Raises:
            PredictionFailed: there is no value; `.traceback` says why.
            ForeignURL: the answer names a pickle that the request did not ask for, or that is not the server's.
        """
        url = self._pickle_url()
        if url is not None and self._downloaded is None:
            self._downloaded = (await self.client.run(predictions.download(url)),)
        return self.value


class EndpointResponseFuture(FutureFields):
    """The response of an async task, which may be still to come: `await future` waits for it."""

    client: AwaitableClient

    def __await__(self) -> Generator[Any, Any, EndpointResponse]:
        return self.get().__await__()

    async def get(self, timeout: float | None = None) -> EndpointResponse:
        """Wait for the response; one request, which the server answers once the task is done.

        Raises:
            WaitTimeout: it is not done after `timeout` seconds; it keeps running.
        """
        if self._answer is None:
            self.keep(await self.client.run(predictions.wait_for(self.async_task_id, timeout)))
        assert self._answer is not None
        return EndpointResponse.of(self.client, self._answer, self.return_pickled)

    async def done(self) -> bool:
        """Return whether the task is done; asks the server unless that is known."""
        if self._answer is None:
            self.keep(await self.client.run(predictions.look(self.async_task_id)))
        return self._answer is not None

    async def progress(self) -> Progress | None:
        """Fetch how far the task is, as its function has said with `context.progress`; None: it has not."""
        return (await self.client.run(predictions.look_at_progress(self.async_task_id, 0, 0.0))).progress

    async def partials(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """Yield the values that the task gives with `context.partial`, as they come; see the blocking one."""
        following = predictions.Following(self.async_task_id, timeout)
        while not following.done:
            for value in (await self.client.run(following.look())).partials:
                yield value

    async def cancel(self) -> bool:
        """Cancel the task: a waiting one is dropped, a running one is stopped. Return False if it was done."""
        return await self.client.run(predictions.cancel_task(self.async_task_id))

    def add_done_callback(self, callback: "Callable[[EndpointResponseFuture], object]") -> None:
        """Call `callback(future)` in this event loop once the task is done, or can't be waited for."""
        if self._answer is not None:
            callback(self)
        else:
            self.client.watcher.add(self, callback)


async def as_completed(
    futures: Iterable[EndpointResponseFuture], timeout: float | None = None
) -> AsyncIterator[EndpointResponseFuture]:
    """Yield the futures, each as soon as it is done; see `openlaunch.as_completed`."""
    gathering = Gathering(futures, timeout)
    for future in gathering.ready:
        yield future
    while groups := gathering.groups():
        for group in groups:
            for future in await group.client.run(group.poll(gathering.seconds())):
                yield future
        gathering.check_time()


class EndpointResponseStream(AwaitableStream[EndpointResponse], NoResponse):
    """The items of a streaming prediction as they come: `async for`, once; see the blocking one."""

    _how = "iterate over the stream: each of its items is a response"

    def __init__(self, client: AwaitableClient, source: predictions.OpenStream, response: Response) -> None:
        self.client = client

        def feed(piece: bytes) -> Iterator[EndpointResponse]:
            return (
                EndpointResponse.of(client, answer, source.pickled) for answer in source.reader.feed(piece)
            )

        super().__init__(
            Reading(
                response,
                feed,
                resume=lambda reason: client.run(source.resume(reason)),
                on_stop=lambda: client.run(source.stop()),
            )
        )


class AsyncEndpointBatchResponse(BatchFields[EndpointResponseFuture]):
    """The responses of a batch. Deprecated: use `predict_many` and `as_completed`."""

    def _future(self, task_id: str, return_pickled: bool) -> EndpointResponseFuture:
        return EndpointResponseFuture(self.client, self.endpoint_name, task_id, return_pickled)

    async def poll_endpoints(self) -> None:
        """Ask once for all tasks that are not known to be done."""
        await self.client.run(self._poll())

    async def is_done(self, poll: bool = True) -> bool:
        """Return whether all tasks are done; without `poll`, whether they were done at the last poll."""
        if poll:
            await self.poll_endpoints()
        return self._all_done()

    def get_responses(self) -> dict[str, EndpointResponse | None]:
        """Return the responses by request id; None for a task that was not done at the last poll."""
        return {
            request_id: None
            if future.answer is None
            else EndpointResponse.of(self.client, future.answer, future.return_pickled)
            for request_id, future in self._futures.items()
        }

    async def batch_status(self) -> dict[str, int]:
        """Fetch the number of tasks by status."""
        await self.poll_endpoints()
        return self._counts()


class Endpoint(EndpointFields):
    """A model endpoint of any type; see the blocking one."""

    _is_awaitable = True
    client: AwaitableClient

    async def _look_up(self) -> ModelEndpoint:
        """Find the endpoint of the name, which is all that is known of one made by hand before its first use."""
        self.model_endpoint = await self.client.run(endpoints.looked_up(self.model_endpoint, self._type))
        return self.model_endpoint

    async def refresh(self) -> Self:
        """Fetch the endpoint's state from the server."""
        self.model_endpoint = await self.client.run(endpoints.refreshed(self.model_endpoint))
        return self

    async def status(self) -> str:
        """Fetch the endpoint's status, such as READY, UPDATE_IN_PROGRESS or UPDATE_FAILED."""
        return (await self.refresh()).model_endpoint.status.value

    async def resource_settings(self) -> ResourceState | None:
        """Fetch the resources of each worker."""
        return (await self.refresh()).model_endpoint.resource_state

    async def worker_settings(self) -> DeploymentState | None:
        """Fetch the limits and the current number of workers."""
        return (await self.refresh()).model_endpoint.deployment_state

    resource_state = resource_settings
    deployment_state = worker_settings

    async def wait_until_ready(
        self, timeout: float = DEPLOY_SECONDS, on_status: endpoints.StatusCallback | None = None
    ) -> Self:
        """Wait until the endpoint is READY; raises what the blocking one does."""
        flow = endpoints.wait_until_ready(self.model_endpoint, timeout, on_status)
        self.model_endpoint = await self.client.run(flow)
        return self


class SyncEndpoint(Endpoint):
    """An endpoint whose predictions are answered at once."""

    _type = EndpointType.SYNC

    async def predict(self, request: EndpointRequest, *, timeout: float | None = None) -> EndpointResponse:
        """Run a prediction and wait for its response; raises what the blocking one does."""
        endpoint = self.model_endpoint if self.model_endpoint.id else await self._look_up()
        flow = predictions.predict_sync(endpoint.id, request, timeout, endpoint.timeout_seconds)
        return EndpointResponse.of(self.client, await self.client.run(flow), request.return_pickled)


class StreamingEndpoint(Endpoint):
    """An endpoint whose predictions are answered item by item."""

    _type = EndpointType.STREAMING

    async def predict(
        self, request: EndpointRequest, *, timeout: float | None = None, resume: bool = True
    ) -> EndpointResponseStream:
        """Run a prediction and return its items as a stream; `resume` and errors are those of the blocking one."""
        endpoint = self.model_endpoint if self.model_endpoint.id else await self._look_up()
        limit = endpoint.timeout_seconds
        source = predictions.OpenStream(endpoint.id, request, timeout, limit, resume=resume)
        return EndpointResponseStream(self.client, source, await self.client.run(source.begin()))


class AsyncEndpoint(Endpoint):
    """An endpoint whose predictions are tasks in a durable queue."""

    _type = EndpointType.ASYNC

    async def predict(
        self, request: EndpointRequest, *, timeout: float | None = None
    ) -> EndpointResponseFuture:
        """Put a task into the queue; raises what the blocking one does."""
        endpoint = self.model_endpoint if self.model_endpoint.id else await self._look_up()
        task_id = await self.client.run(predictions.submit(endpoint.id, request, timeout))
        return EndpointResponseFuture(self.client, self.name, task_id, request.return_pickled)

    async def predict_many(self, requests: Sequence[EndpointRequest]) -> list[EndpointResponseFuture]:
        """Put many tasks into the queue, up to 1,000 with one HTTP request; raises what the blocking one does."""
        endpoint = self.model_endpoint if self.model_endpoint.id else await self._look_up()
        task_ids = await self.client.run(predictions.submit_many(endpoint.id, requests))
        return [
            EndpointResponseFuture(self.client, self.name, task_id, request.return_pickled)
            for request, task_id in zip(requests, task_ids, strict=True)
        ]

    async def predict_batch(self, requests: Sequence[EndpointRequest]) -> AsyncEndpointBatchResponse:
        """Put many tasks into the queue. Deprecated: use `predict_many` and `as_completed`."""
        warnings.warn("predict_batch is deprecated: use predict_many", DeprecationWarning, stacklevel=2)
        ids = distinct_ids(requests)
        pickled = {request.request_id for request in requests if request.return_pickled}
        endpoint = self.model_endpoint if self.model_endpoint.id else await self._look_up()
        task_ids = await self.client.run(predictions.submit_many(endpoint.id, requests))
        return AsyncEndpointBatchResponse(
            self.client, self.name, dict(zip(ids, task_ids, strict=True)), pickled
        )


AnyEndpoint = AsyncEndpoint | StreamingEndpoint | SyncEndpoint


def _endpoint_of(client: AwaitableClient, model_endpoint: ModelEndpoint) -> AnyEndpoint:
    if model_endpoint.endpoint_type is EndpointType.ASYNC:
        return AsyncEndpoint(model_endpoint, client)
    if model_endpoint.endpoint_type is EndpointType.STREAMING:
        return StreamingEndpoint(model_endpoint, client)
    return SyncEndpoint(model_endpoint, client)


def _endpoints_of(client: AwaitableClient, model_endpoints: list[ModelEndpoint]) -> list[AnyEndpoint]:
    return [_endpoint_of(client, model_endpoint) for model_endpoint in model_endpoints]


def _future_of(client: AwaitableClient, task_id: str) -> EndpointResponseFuture:
    return EndpointResponseFuture(client, "", task_id)


class LaunchClient(Operations, make=awaitable):
    """A connection to an Openlaunch server; see `openlaunch.LaunchClient`."""

    def _connect(self, target: Target, retry: RetryPolicy) -> None:
        self._driver = driver = Driver.awaitable(target, retry)
        self._watchers = PerLoop(lambda: AsyncWatcher(driver.run), AsyncWatcher.close)

    @property
    def watcher(self) -> AsyncWatcher:
        """Calls the callbacks of futures in the running event loop."""
        return self._watchers.get()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections and run no further callbacks; harmless when called twice."""
        await self._watchers.close()
        await self._driver.close()

    async def run(self, flow: Flow[T]) -> T:
        """Run an operation; the other methods do this for you."""
        return await self._driver.run(flow)

    def future(
        self, task_id: str, endpoint_name: str = "", return_pickled: bool = False
    ) -> EndpointResponseFuture:
        """Return the future of a task that was submitted before; see `openlaunch.LaunchClient.future`."""
        return EndpointResponseFuture(self, endpoint_name, task_id, return_pickled)

    deploy: Deploy[
        Coroutine[Any, Any, SyncEndpoint],
        Coroutine[Any, Any, StreamingEndpoint],
        Coroutine[Any, Any, AsyncEndpoint],
        Coroutine[Any, Any, AnyEndpoint],
    ] = cast("Any", awaitable(deploy, _endpoint_of))
    deploy_llm = awaitable(llm.deploy_llm, _endpoint_of)
    create_model_endpoint = awaitable(endpoints.create_model_endpoint, _endpoint_of)
    edit_model_endpoint = awaitable(endpoints.edit_model_endpoint, _endpoint_of)
    get_model_endpoint = awaitable(endpoints.get_model_endpoint, _endpoint_of)
    list_model_endpoints = awaitable(endpoints.list_model_endpoints, _endpoints_of)
    hand_over_model_endpoint = awaitable(endpoints.hand_over_model_endpoint, _endpoint_of)
    start_canary = awaitable(canaries.start_canary, _endpoint_of)
    set_canary_percent = awaitable(canaries.set_canary_percent, _endpoint_of)
    promote_canary = awaitable(canaries.promote_canary, _endpoint_of)
    roll_back_canary = awaitable(canaries.roll_back_canary, _endpoint_of)
    wait_for_canary = awaitable(canaries.wait_for_canary, _endpoint_of)
    follow_endpoint_logs = awaitable(endpoint_reports.follow_endpoint_logs, AsyncLogStream.of)
    stream_chat_llm = awaitable(llm.stream_chat_llm, AsyncChatStream.of)
    rerun_task = awaitable(tasks.rerun_task, _future_of)
