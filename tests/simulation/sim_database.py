"""The database: leases by its clock, and the tasks. A statement is done at once or not; its answer can be lost.

A statement that was given up can still be done later. One of tasks is done before what its process sent after it, as
the store ends a lost session before it opens the next. A renewal of a lease can be done after later ones.
"""

from collections import deque

from openlaunch.nodes import leases
from openlaunch.nodes.leases import Row


class Task:
    def __init__(self, endpoint, seconds):
        self.endpoint, self.seconds = endpoint, seconds
        self.owner = None
        self.recorded = 0


class Database:
    def __init__(self, world):
        self.world = world
        self.leader = Row()
        self.gateways = {}
        self.tasks = {}
        self.waiting = {}  # tasks without an owner, in order
        self.listeners = []  # gateways
        self._sessions = {}  # process -> what it has sent that is not done
        self.statements = 0
        self.away_until = self.hung_until = 0.0
        self.losing = 0.0
        self._offset = world.random.uniform(-1e5, 1e5)

    def clock(self):
        return self._offset + self.world.now

    def ask(self, process, statement, answered, failed):
        """Run a statement for a process, which calls `answered` with what it gave, or `failed`."""
        self._send(deque(), process, statement, answered, failed)

    def write(self, process, statement, answered, failed):
        """Run a statement after all that the process has sent this way before."""
        self._send(self._sessions.setdefault(process, deque()), process, statement, answered, failed)

    def _send(self, session, process, statement, answered, failed):
        world = self.world
        open_ = [True]

        def end(call, *args):
            if open_:
                open_.clear()
                process.do(call, *args)

        session.append((statement, lambda gave: end(answered, gave), lambda: end(failed)))
        world.at(world.now + world.random.uniform(0.0002, 0.002), self._execute, session)
        world.at(world.now + leases.ANSWER_SECONDS, end, failed)

    def _execute(self, session):
        """Run the next statement of a session."""
        world, random = self.world, self.world.random
        if self.hung_until > world.now >= self.away_until:
            world.at(self.hung_until, self._execute, session)
            return
        statement, answered, failed = session.popleft()
        if self.away_until > world.now:
            world.at(world.now + 0.0002, failed)
            return
        self.statements += 1
        gave = statement()
        if not self.losing or random.random() >= self.losing:
            world.at(world.now + random.uniform(0.0002, 0.002), answered, gave)

    def notify(self, name):
        for gateway in self.listeners:
            if gateway.alive and self.away_until <= self.world.now:
                self.world.at(
                    self.world.now + self.world.random.uniform(0.0002, 0.002),
                    gateway.do,
                    getattr(gateway, name),
                )

    # --- statements -----------------------------------------------------------------------------------------

    def beat_gateway(self, name, epoch):
        """Return whether the gateway has its row, which is there already if its epoch is not 0."""
        row = self.gateways.get(name)
        if row is None and epoch:
            return False
        self.gateways[name] = leases.beat(row or Row(), name, self.clock())
        return True

    def beat_leader(self, name):
        """Return the leader's epoch if the gateway leads, else 0, and how long the lease lasts."""
        now = self.clock()
        self.leader = leases.beat(self.leader, name, now)
        return (self.leader.epoch if self.leader.holder == name else 0), self.leader.until - now

    def leave(self, name):
        self.leader = leases.handed_over(self.leader, name, self.clock())
        self.gateways.pop(name, None)
        self._requeue(name)
        self.notify("leader_left")

    def reap(self):
        now = self.clock()
        for name in [name for name, row in self.gateways.items() if leases.has_run_out(row, now)]:
            self.world.note("reaped", name)
            del self.gateways[name]
            self._requeue(name)

    def _requeue(self, name):
        for key, task in self.tasks.items():
            if task.owner == name and not task.recorded:
                task.owner = None
                self.waiting[key] = task
        if self.waiting:
            self.notify("claim")

    def submit(self, key, endpoint, seconds):
        if key not in self.tasks:
            self.tasks[key] = self.waiting[key] = Task(endpoint, seconds)
            self.notify("claim")

    def claim(self, name, known, limit):
        """Lease tasks to a gateway, after those have been freed that it does not know of, as an answer was lost."""
        if known is not None:
            for key, task in self.tasks.items():
                if task.owner == name and not task.recorded and key not in known:
                    task.owner = None
                    self.waiting[key] = task
        claimed = []
        if name in self.gateways:
            for key in list(self.waiting)[:limit]:
                task = self.waiting.pop(key)
                task.owner = name
                claimed.append((key, task))
        return claimed

    def release(self, name, key):
        task = self.tasks[key]
        if task.owner == name and not task.recorded:
            task.owner = None
            self.waiting[key] = task
            self.notify("claim")

    def record(self, name, key):
        """Record a result, if the task is still leased to the gateway; a repeated one changes nothing."""
        task = self.tasks[key]
        if task.owner == name and not task.recorded:
            task.recorded += 1
