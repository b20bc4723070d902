"""The threads in which plain functions run."""

import threading
from _thread import LockType
from collections import deque
from collections.abc import Callable
from typing import Final

Work = Callable[[], None]


class ThreadPool:
    """At most `limit` daemon threads, made when they are first needed.

    The thread that became idle last is woken first, because its memory is still in the processor's caches. One
    thread at a time is on its way, woken or new; when it comes and more waits than it takes, it brings the next
    one. So short work is done by few threads, and no work waits while a thread may be had. Daemon threads, because
    a function that never returns must not keep the process from ending. What waits for a thread has no bound here:
    it is requests that hold a slot of the worker.
    """

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._size = 0
        self._lock = threading.Lock()
        self._waiting: deque[Work] = deque()
        self._idle: list[LockType] = []
        """For each thread that sleeps, what it waits for."""
        self._wanted = 0
        self._on_its_way = False

    def submit(self, work: Work, wanted: int) -> None:
        """Run `work`, which must not raise; `wanted` is how many things may now want a thread, this among them.

        Raise `RuntimeError` or `MemoryError` where there is no thread, and none can be started.
        """
        with self._lock:
            self._waiting.append(work)
            self._wanted = wanted
            try:
                self._bring_one()
            except (RuntimeError, MemoryError):
                self._waiting.pop()
                raise

    def _bring_one(self) -> None:
        """Wake the thread that became idle last, or start one, unless one is on its way."""
        if self._on_its_way:
            return
        if self._idle:
            self._on_its_way = True
            self._idle.pop().release()
        elif self._size < min(self._wanted, self.limit):
            try:
                self._start_one()
            except (RuntimeError, MemoryError):
                if not self._size:  # else the threads that there are do it
                    raise

    def _start_one(self) -> None:
        name = f"predict-{self._size + 1}"
        threading.Thread(target=self._run, name=name, daemon=True).start()
        self._size += 1
        self._on_its_way = True  # the lock is held: it has not come yet

    def _run(self) -> None:
        woken = threading.Lock()
        woken.acquire()
        came = True
        while True:
            with self._lock:
                if came:
                    self._on_its_way = came = False
                work = self._waiting.popleft() if self._waiting else None
                if work is None:
                    self._idle.append(woken)
                elif self._waiting:
                    self._bring_one()
            if work is not None:
                work()
            else:
                woken.acquire()
                came = True
