"""The threads in which plain functions run."""

import threading
from _thread import LockType
from collections import deque
from collections.abc import Callable
from typing import Final

Work = Callable[[], None]


class ThreadPool:
    """At most `limit` daemon threads, made when they are first needed.

    Who became idle last is woken first, because its memory is still in the processor's caches; and only one at a
    time is being woken, which may find that others have done the work by then. Daemon threads, because a function
    that never returns must not keep the process from ending. What waits for a thread has no bound here: it is
    requests that hold a slot of the worker.
    """

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._size = 0
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._idle: list[LockType] = []
        """For each thread that sleeps, what it waits for."""
        self._waking = False

    def submit(self, work: Work, wanted: int) -> None:
        """Run `work`, which must not raise; `wanted` is how many things may now want a thread, this among them."""
        with self._lock:
            self._waiting.append(work)
            if not self._idle and self._size < min(wanted, self.limit):
                self._size += 1
                threading.Thread(target=self._run, name=f"predict-{self._size}", daemon=True).start()
            else:
                self._wake()

    def _wake(self) -> None:
        if self._idle and not self._waking:
            self._waking = True
            self._idle.pop().release()

    def _run(self) -> None:
        woken = threading.Lock()
        woken.acquire()
        while True:
            with self._lock:
                work = self._waiting.popleft() if self._waiting else None
                if work is None:
                    self._idle.append(woken)
                elif self._waiting:
                    self._wake()
            if work is not None:
                work()
            else:
                woken.acquire()
                self._waking = False
