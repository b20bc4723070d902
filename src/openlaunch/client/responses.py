"""What predictions of the blocking client give: a response, a future, a stream, a batch."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from openlaunch.client.effects import Response
from openlaunch.client.operations import predictions as operations
from openlaunch.client.predictions import NoResponse, Progress, ResponseFields
from openlaunch.client.streams import Reading, Stream
from openlaunch.client.surface import BlockingClient
from openlaunch.client.waiting import BatchFields, FutureFields, Gathering

_UNSET = object()


class EndpointResponse(ResponseFields):
    """How a prediction ended.

    Attributes:
        status: "SUCCESS" or "FAILURE".
        result: what the predict function returned, as JSON text.
        result_url: of the pickled return value, where the request had `return_pickled`.
        traceback: of the exception in the model, or the reason of the failure.
        status_code: 200, or what the failure stands for: 500 for an exception in the model.
        request_id: of a FAILURE, the id of the request or task, under which the endpoint's log has it.
    """

    client: BlockingClient
    _value: Any = _UNSET

    @property
    def value(self) -> Any:
        """What the predict function returned, as a Python object.

        A pickled result is downloaded and unpickled, which runs what the pickle says: use it with endpoints
        that you trust. This happens only if the request had `return_pickled`, and only from the client's own server.

        Raises:
            PredictionFailed: there is no value; `.traceback` says why.
            ForeignURL: the answer names a pickle that the request did not ask for, or that is not the server's.
        """
        if self._value is _UNSET:
            self.raise_for_status()
            url = self._pickle_url()
            self._value = self._json_value() if url is None else self.client.run(operations.download(url))
        return self._value


class EndpointResponseFuture(FutureFields):
    """The response of an async task, which may be still to come."""

    client: BlockingClient

    def get(self, timeout: float | None = None) -> EndpointResponse:
        """Wait for the response; one request, which the server answers once the task is done.

        Args:
            timeout: seconds; None waits until it is done.

        Raises:
            WaitTimeout: it is not done after `timeout` seconds; it keeps running.
        """
        if self._answer is None:
            self.keep(self.client.run(operations.wait_for(self.async_task_id, timeout)))
        assert self._answer is not None
        return EndpointResponse.of(self.client, self._answer, self.return_pickled)

    def done(self) -> bool:
        """Return whether the task is done; asks the server unless that is known."""
        if self._answer is None:
            self.keep(self.client.run(operations.look(self.async_task_id)))
        return self._answer is not None

    def progress(self) -> Progress | None:
        """Fetch how far the task is, as its function has said with `context.progress`; None: it has not."""
        return self.client.run(operations.look_at_progress(self.async_task_id, 0, 0.0)).progress

    def partials(self, timeout: float | None = None) -> Iterator[Any]:
        """Yield the values that the task gives with `context.partial`, as they come, until it is done.

        A task that runs again, because its worker died, gives its values again. `get()` then has the result.

        Args:
            timeout: seconds for all of it; None sets no bound.

        Raises:
            WaitTimeout: the task is not done after `timeout` seconds; it keeps running.
        """
        following = operations.Following(self.async_task_id, timeout)
        while not following.done:
            yield from self.client.run(following.look()).partials

    def cancel(self) -> bool:
        """Cancel the task: a waiting one is dropped, a running one is stopped. Return False if it was done."""
        return self.client.run(operations.cancel_task(self.async_task_id))

    def add_done_callback(self, callback: "Callable[[EndpointResponseFuture], object]") -> None:
        """Call `callback(future)` once the task is done, from a background thread of the client.

        It is called immediately if the task is known to be done, and also when the server can no longer be
        reached: `get()` then raises. One thread serves all callbacks of a client, so they should be short.
        """
        if self._answer is not None:
            callback(self)
        else:
            self.client.watcher.add(self, callback)


def as_completed(
    futures: Iterable[EndpointResponseFuture], timeout: float | None = None
) -> Iterator[EndpointResponseFuture]:
    """Yield the futures, each as soon as it is done; its `get()` then makes no further request.

    One request waits for up to 1,000 tasks at a time.

    Args:
        futures: of one client or several.
        timeout: seconds for all together; None waits until all are done.

    Raises:
        WaitTimeout: some are not done after `timeout` seconds; they keep running.
    """
    gathering = Gathering(futures, timeout)
    yield from gathering.ready
    while groups := gathering.groups():
        for group in groups:
            yield from group.client.run(group.poll(gathering.seconds()))
        gathering.check_time()


class EndpointResponseStream(Stream[EndpointResponse], NoResponse):
    """The items of a streaming prediction as they come: iterate over it, once.

    It ends with its last item; an item whose status is FAILURE is the last one. Leave it early with `close()`,
    or use it in a `with` statement: that stops the model's work too. When the connection breaks, the client resumes
    the stream on another one, where the server still has what was missed.
    """

    _how = "iterate over the stream: each of its items is a response"

    def __init__(self, client: BlockingClient, source: operations.OpenStream, response: Response) -> None:
        self.client = client

        def feed(piece: bytes) -> Iterator[EndpointResponse]:
            return (
                EndpointResponse.of(client, answer, source.pickled) for answer in source.reader.feed(piece)
            )

        async def resume(reason: object) -> Response | None:
            return client.run(source.resume(reason))

        async def stop() -> None:
            client.run(source.stop())

        super().__init__(Reading(response, feed, resume, stop))


class AsyncEndpointBatchResponse(BatchFields[EndpointResponseFuture]):
    """The responses of a batch, by the ids of its requests. Deprecated: use `predict_many` and `as_completed`."""

    def _future(self, task_id: str, return_pickled: bool) -> EndpointResponseFuture:
        return EndpointResponseFuture(self.client, self.endpoint_name, task_id, return_pickled)

    def poll_endpoints(self) -> None:
        """Ask once for all tasks that are not known to be done."""
        self.client.run(self._poll())

    def is_done(self, poll: bool = True) -> bool:
        """Return whether all tasks are done; without `poll`, whether they were done at the last poll."""
        if poll:
            self.poll_endpoints()
        return self._all_done()

    def get_responses(self) -> dict[str, EndpointResponse | None]:
        """Return the responses by request id; None for a task that was not done at the last poll."""
        return {
            request_id: None
            if future.answer is None
            else EndpointResponse.of(self.client, future.answer, future.return_pickled)
            for request_id, future in self._futures.items()
        }

    def batch_status(self) -> dict[str, int]:
        """Fetch the number of tasks by status."""
        self.poll_endpoints()
        return self._counts()
