"""Stops plain Python that runs in a thread, by an exception that is raised in the middle of it.

Python has one way to do that, `PyThreadState_SetAsyncExc`: it marks a thread, which raises the exception some time
later, between two of its instructions, wherever it is by then. So what is to be stopped has to be marked off
exactly: an exception that comes a moment late would hit the next request, or this runtime's own code.
"""

import threading
from _thread import get_ident
from collections.abc import Callable
from typing import Any, TypeVar

from openlaunch_worker.jobs import Job

T = TypeVar("T")
CUTS: dict[int, Callable[[], None]] = {}
"""By thread, what ends a call that it waits for outside of Python."""


class Interrupted(BaseException):
    """The request was cancelled, its client has gone, or its deadline has passed: its code is to end.

    Not an `Exception`, so that code which catches any error does not catch this one.
    """


class Interrupts:
    """Which threads run user code, and for which jobs.

    A thread is in `run` while it does. Its entry in `_threads` is a token: taking a key out of a dict happens
    once. When the thread takes it out, nothing has been sent to it and nothing will be. When the loop does, the
    thread can't leave `run` before the loop has sent the exception, and then takes back what it has not met.
    """

    def __init__(self) -> None:
        self._threads: dict[int, int] = {}

    def run(self, job: Job, function: Callable[..., T], *args: Any) -> T:
        """Call user code; afterwards no exception is on its way. Raise `Interrupted` if the job was or is stopped."""
        threads, job_id = self._threads, job.id
        try:
            threads[job_id] = get_ident()
            # After the entry is there: the loop sets `stop`, then looks for the entry, so one sees the other.
            if job.stop is not None:
                raise Interrupted
            return function(*args)
        finally:
            if threads.pop(job_id, None) is None:
                self._take_back(job)

    def _take_back(self, job: Job) -> None:
        # The exception may come at any point here, too: it ends `run`, and then there is nothing left to take back.
        assert job.sent is not None
        job.sent.acquire()
        _set_async_exc(get_ident(), None)

    def interrupt(self, job: Job) -> None:
        """Stop what runs of a job in a thread, if anything does.

        It is called from the loop, once for a job that has `stop` set.
        """
        job.sent = threading.Lock()  # a bare lock, because an exception can't leave it in a half-way state
        job.sent.acquire()
        if (thread := self._threads.pop(job.id, None)) is not None:
            _set_async_exc(thread, Interrupted)
            if (end_call := CUTS.get(thread)) is not None:
                end_call()
        job.sent.release()


def _set_async_exc(thread: int, kind: type[BaseException] | None) -> None:
    """Have the thread raise this, or not raise what it has not raised yet.

    Where this Python was built without ctypes nothing happens, and the server ends the worker.
    """
    try:
        import ctypes  # nothing else needs it, and hardly any worker ever gets here
    except ImportError:
        return
    exception = ctypes.py_object() if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)
