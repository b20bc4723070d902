"""What both clients share of waiting for many tasks, without I/O."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from openlaunch.client.effects import Flow
from openlaunch.client.operations.predictions import BulkWait
from openlaunch.client.predictions import Answer, EndpointRequest, NoResponse, checked_request
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import WaitTimeout
from openlaunch.wire.tasks import MAX_BULK, MAX_WAIT_SECONDS

SHARED_POLL_SECONDS = 0.2
"""How long to wait for one server while there are tasks on another one too."""


class Future(Protocol):
    """A future of either client."""

    client: Any
    async_task_id: str

    @property
    def answer(self) -> Answer | None:
        """How the task ended, where that is known already."""

    def keep(self, answer: Answer) -> None:
        """Remember how the task ended."""


F = TypeVar("F", bound=Future)


class FutureFields(NoResponse):
    """What the blocking and the awaitable `EndpointResponseFuture` share."""

    _how = "get() waits for the task, and gives its response"

    def __init__(
        self, client: Any, endpoint_name: str, async_task_id: str, return_pickled: bool = False
    ) -> None:
        self.client = client
        self.endpoint_name = endpoint_name
        self.async_task_id = async_task_id
        self.return_pickled = return_pickled
        self._answer: Answer | None = None

    def __repr__(self) -> str:
        state = self._answer.status if self._answer is not None else "not known to be done"
        return f"{type(self).__name__}(async_task_id={self.async_task_id!r}, {state})"

    @property
    def answer(self) -> Answer | None:
        """How the task ended, where that is known already, without asking the server."""
        return self._answer

    def keep(self, answer: Answer) -> None:
        """Remember how the task ended, so that no further request is made."""
        if answer.done:
            self._answer = answer


class Group(Generic[F]):
    """The unfinished futures of one client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._futures: dict[str, list[F]] = {}
        self._wait = BulkWait()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: F) -> None:
        if future.async_task_id not in self._futures:
            self._futures[future.async_task_id] = []
            self._wait.add(future.async_task_id)
        self._futures[future.async_task_id].append(future)

    def members(self) -> list[F]:
        return [future for same in self._futures.values() for future in same]

    def poll(self, seconds: float) -> Flow[list[F]]:
        """Give those that are done, after at most `seconds`; their answers are kept."""
        finished = []
        for task_id, answer in (yield from self._wait.poll(seconds)).items():
            for future in self._futures.pop(task_id, ()):
                future.keep(answer)
                finished.append(future)
        return finished

    def poll_all(self) -> Flow[None]:
        """Ask once about each of them, without waiting."""
        for _ in range(-(-len(self._wait) // MAX_BULK)):
            yield from self.poll(0.0)


class BatchFields(ABC, Generic[F]):
    """What the responses of a batch of both clients share."""

    def __init__(
        self,
        client: Any,
        endpoint_name: str,
        request_ids: Mapping[str, str],
        pickled: Collection[str] = (),
    ) -> None:
        self.client = client
        self.endpoint_name = endpoint_name
        self.request_ids = dict(request_ids)
        self._futures = {
            name: self._future(task_id, name in pickled) for name, task_id in request_ids.items()
        }

    @abstractmethod
    def _future(self, task_id: str, return_pickled: bool) -> F: ...

    def _poll(self) -> Flow[None]:
        group: Group[F] = Group(self.client)
        for future in self._futures.values():
            if future.answer is None:
                group.add(future)
        return group.poll_all()

    def _all_done(self) -> bool:
        return all(future.answer is not None for future in self._futures.values())

    def _counts(self) -> dict[str, int]:
        answers = (future.answer for future in self._futures.values())
        return dict(Counter("PENDING" if answer is None else answer.status for answer in answers))


class Gathering(Generic[F]):
    """Futures for which a program waits together: `ready` are done at the start, `groups` are not."""

    def __init__(
        self, futures: Iterable[F], timeout: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ready: list[F] = []
        groups: dict[int, Group[F]] = {}
        for future in futures:
            if not isinstance(future, FutureFields):
                raise TypeError(
                    f"one of the futures is of type {type(future).__qualname__}: what predict() of an async endpoint "
                    "returns is needed"
                )
            if future.answer is not None:
                self.ready.append(future)
            else:
                groups.setdefault(id(future.client), Group(future.client)).add(future)
        self._groups = list(groups.values())
        self._clock = clock
        self._timeout = timeout
        check_seconds(timeout)
        self._deadline = None if timeout is None else clock() + timeout

    def groups(self) -> Sequence[Group[F]]:
        self._groups = [group for group in self._groups if group]
        return self._groups

    def seconds(self) -> float:
        """Return how long the next poll may be held."""
        longest = MAX_WAIT_SECONDS if len(self._groups) == 1 else SHARED_POLL_SECONDS
        if self._deadline is None:
            return longest
        return min(max(self._deadline - self._clock(), 0.0), longest)

    def check_time(self) -> None:
        """Raise `WaitTimeout` if the deadline has passed.

        Raises WaitTimeout when time is over and there are unfinished futures.
        """
        left = sum(len(group) for group in self.groups())
        if left and self._deadline is not None and self._clock() >= self._deadline:
            raise WaitTimeout(f"{left} tasks are not done after {self._timeout:g} seconds; they keep running")


def distinct_ids(requests: Sequence[EndpointRequest]) -> list[str]:
    """Return the ids of the requests of a batch.

    Raises TypeError where one is not an EndpointRequest, and ValueError when two have the same id.
    """
    ids = [checked_request(request).request_id for request in requests]
    repeated = [request_id for request_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(
            f"the request_id {repeated[0]!r} is given more than once: ids in a batch are distinct"
        )
    return ids
