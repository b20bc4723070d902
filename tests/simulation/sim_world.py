"""A virtual clock, processes that can be killed and paused, and connections that can be slow, cut and frozen."""

import heapq
import itertools
import random
from collections import deque

HEARTBEAT_SECONDS = 2.0
"""After how long a silent peer is given up."""


MOST_EVENTS = 50_000
"""More of them in a few seconds are messages in a circle."""


class Violation(AssertionError):
    """A rule that must hold at any time did not."""


class World:
    """The order of all that happens, which follows from the seed alone."""

    def __init__(self, seed):
        self.now = 0.0
        self.random = random.Random(seed)
        self.trace = None
        self._heap = []
        self._count = itertools.count()

    def at(self, when, call, *args):
        heapq.heappush(self._heap, (when, next(self._count), call, args))

    def run(self, until):
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, number, call, args = heapq.heappop(heap)
            if number > MOST_EVENTS:
                raise Violation(f"at {self.now:.5f} s: {MOST_EVENTS} events, the last of which is {call}")
            call(*args)
        self.now = until

    def note(self, *words):
        if self.trace is not None:
            self.trace.append((round(self.now, 5), *words))

    def check(self, holds, *words):
        if not holds:
            raise Violation(f"at {self.now:.5f} s: {' '.join(map(str, words))}")


class Process:
    """One start of a program. Its clock has an offset of its own and runs at a rate of its own."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.alive, self.paused = True, False
        self.connections = []
        self._offset = world.random.uniform(-1e4, 1e4)
        self._rate = world.random.uniform(0.99, 1.01)
        self._backlog = []

    def clock(self):
        return self._offset + self.world.now * self._rate

    def later(self, seconds, call, *args):
        """Call after so many seconds of this process's clock, unless it is dead then."""
        self.world.at(self.world.now + max(seconds, 0.0) / self._rate, self.do, call, *args)

    def do(self, call, *args):
        if not self.alive:
            return
        if self.paused:
            self._backlog.append((call, args))
        else:
            call(*args)

    def kill(self):
        self.alive = False
        for connection in list(self.connections):
            connection.close()

    def pause(self, seconds):
        self.paused = True
        world = self.world
        if seconds >= HEARTBEAT_SECONDS:
            for connection in self.connections:
                world.at(world.now + HEARTBEAT_SECONDS, connection.close)
        world.at(world.now + seconds, self._resume)

    def _resume(self):
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for call, args in backlog:
            self.do(call, *args)


class Connection:
    """Frames between two processes: in order in each direction, none of them twice, until it is closed."""

    def __init__(self, world, latency, *ends):
        self.world, self.latency, self.ends = world, latency, ends
        self.open = True
        self.frozen_until = 0.0
        self._queues = {end: deque() for end in ends}
        for end in ends:
            end.connections.append(self)

    def other(self, end):
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def send(self, to, call, *args):
        """Have the process at the other end call this, unless the connection is closed before."""
        if self.open:
            self._queue(to, call, args)

    def _queue(self, to, call, args):
        world = self.world
        self._queues[to].append((call, args))
        low, high = self.latency
        world.at(max(world.now + world.random.uniform(low, high), self.frozen_until), self._deliver, to)

    def _deliver(self, to):
        world = self.world
        if self.frozen_until > world.now:
            world.at(self.frozen_until, self._deliver, to)
        elif self._queues[to]:
            call, args = self._queues[to].popleft()
            to.do(call, *args)

    def freeze(self, seconds):
        """Deliver nothing for a while, as a cable does that is pulled."""
        self.frozen_until = self.world.now + seconds
        if seconds >= HEARTBEAT_SECONDS:
            self.world.at(self.world.now + HEARTBEAT_SECONDS, self.close)

    def close(self):
        """Close it. Of what is on its way a part arrives; then each end learns of it."""
        if not self.open:
            return
        self.open = False
        for end in self.ends:
            end.connections.remove(self)
            queue = self._queues[end]
            for _ in range(self.world.random.randint(0, len(queue))):
                queue.pop()
            self.world.at(self.world.now, self._learn, end)

    def _learn(self, end):
        # What had arrived is read first; the frozen end of a pulled cable knows by its heartbeats.
        queue = self._queues[end]
        while queue:
            call, args = queue.popleft()
            end.do(call, *args)
        end.do(end.lost, self)


def latency(random):
    """Choose how long the frames of a connection take, at least and at most, in seconds."""
    low = random.choice((0.00005, 0.0001))
    return low, low * random.choice((1.0, 2.0))
