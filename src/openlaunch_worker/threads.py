"""The threads in which plain functions run."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

Work = Callable[[], None]


class ThreadPool:
    """At most `limit` daemon threads, made when they are first needed.

    Daemon threads, because a function that never returns must not keep the process from ending. The queue has
    no bound of its own: what is in it are requests that hold a slot of the worker.
    """

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._size = 0
        self._queue: SimpleQueue[Work] = SimpleQueue()

    def submit(self, work: Work, wanted: int) -> None:
        """Run `work`, which must not raise; `wanted` is how many things may now want a thread, this among them."""
        if self._size < min(wanted, self.limit):
            self._size += 1
            threading.Thread(target=self._run, name=f"predict-{self._size}", daemon=True).start()
        self._queue.put(work)

    def _run(self) -> None:
        get = self._queue.get
        while True:
            get()()
