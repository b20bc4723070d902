"""The requests that a worker of this node runs, of all servers."""

import asyncio
from collections.abc import Callable, Container
from typing import Literal

from openlaunch.engines.documents import WorkerSpec
from openlaunch_worker.frames import SEAT_IDS


class RunningRequests:
    """Knows what runs, and why the worker is to be replaced: it is worn, or something in it does not stop.

    `tell` is called with each of the two once.
    """

    def __init__(self, spec: WorkerSpec, tell: Callable[[Literal["worn", "stuck"], str], None]) -> None:
        self._spec = spec
        self._tell = tell
        self._running: dict[int, bool] = {}
        """The ids of requests without an answer, and whether each is cancelled."""
        self._begun = 0
        self.worn = self.stuck = ""
        """Why it is to be replaced."""

    def __contains__(self, number: int) -> bool:
        return number in self._running

    def begin(self, number: int) -> None:
        """Note a request that comes."""
        self._running[number] = False
        self._begun += 1
        if self._begun == self._spec.max_requests:
            self.worn = f"it has had {self._begun} requests"
            self._tell("worn", self.worn)

    def end(self, number: int) -> bool:
        """Note an answer; return whether it is to a request that ran."""
        return self._running.pop(number, None) is not None

    def cancel(self, number: int) -> None:
        """Note that nobody waits for a request any longer."""
        if number in self._running:
            self._running[number] = True

    def cancel_all(self, first_id: int, but: Container[int]) -> list[int]:
        """Have all end of the server whose ids are above this, but these; return those that it had not cancelled."""
        of_server = (number for number in self._running if number & -SEAT_IDS == first_id)
        return self.end_soon([number for number in of_server if number not in but])

    def end_soon(self, left: list[int]) -> list[int]:
        """Have these end, and return those that were not cancelled before.

        The worker is to be replaced where one of them does not stop.
        """
        if left:
            asyncio.get_running_loop().call_later(self._spec.grace, self._look_at, left)
        wanted = [number for number in left if not self._running[number]]
        self._running |= dict.fromkeys(left, True)
        return wanted

    def _look_at(self, numbers: list[int]) -> None:
        if not self.stuck and any(number in self._running for number in numbers):
            self.stuck = (
                f"a request did not stop within {self._spec.grace:g} s of its cancellation or deadline"
            )
            self._tell("stuck", self.stuck)

    def is_wanted(self) -> bool:
        """Return whether somebody waits for one of them."""
        return not all(self._running.values())
