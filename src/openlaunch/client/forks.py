"""What a forked process must not share with the one that it was forked from: connections, threads, servers."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that belongs to the process that made it."""

    def forget(self) -> None:
        """Release what belongs to the parent; called in a child process, before anything else runs there."""


_held: "weakref.WeakSet[Forkable]" = weakref.WeakSet()
_buried: list[object] = []


def hold(thing: Forkable) -> None:
    """Have `thing.forget()` called in each process that is forked from this one, for as long as the thing lives."""
    _held.add(thing)


def bury(thing: object) -> None:
    """Keep what is the parent's from being finalized here, which could reach the parent through what both share."""
    _buried.append(thing)


def _forget_all() -> None:
    for thing in list(_held):
        thing.forget()


os.register_at_fork(after_in_child=_forget_all)
