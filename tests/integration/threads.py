"""Threads that ask one thing after the other while a test does something else."""

import threading

from server_driver import DEADLINE


class Threads:
    """Run functions in a thread each, again and again, as long as the `with` statement lasts.

    Each is called with how often it was called before. What one raises is kept in `errors`, and it goes on.
    """

    def __init__(self, *functions):
        self.errors = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in functions]

    def _run(self, function):
        number = 0
        while not self._over.is_set():
            try:
                function(number)
            except Exception as error:
                self.errors.append(error)
            number += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)
            if thread.is_alive():
                self.errors.append("what a thread asks does not end")
