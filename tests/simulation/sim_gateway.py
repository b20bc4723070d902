"""A gateway: requests that wait, tokens, tasks under its lease, and the leader's work while it leads."""

import math
from collections import deque

from sim_world import Connection, Process, latency

from openlaunch.nodes.leases import Lease
from openlaunch.nodes.slots import GatewaySlots

POLL_SECONDS = 0.5
MOST_CLAIMED = 4


class Request:
    """A request or a task, for a caller who leaves at `until`. `done` is called with whether it was answered."""

    __slots__ = ("done", "endpoint", "seconds", "since", "until")

    def __init__(self, endpoint, seconds, since, until, done):
        self.endpoint, self.seconds, self.since, self.until, self.done = endpoint, seconds, since, until, done


class Gateway(Process):
    def __init__(self, cluster, name):
        super().__init__(cluster.world, name)
        self.cluster, self.database = cluster, cluster.database
        self.slots = GatewaySlots()
        self.queues = {endpoint: deque() for endpoint in cluster.wanted}
        self.at = {}  # worker -> (connection, endpoint)
        self.of_endpoint = {endpoint: {} for endpoint in cluster.wanted}
        self.running = {}  # worker -> {number: request}
        self.agents = {}  # name -> connection
        self.wakes_at = None
        self.leaving = False
        # its lease, under an identifier that changes when the lease is lost
        self.row, self.alive_lease = name, Lease()
        self.tasks = {}
        self.claiming = self.unsure = False
        self.leader = Lease()
        self.due_leader = None
        self.seen = {}  # as the leader: agent -> workers that it was ordered to start and has not reported
        self.database.listeners.append(self)
        for agent in cluster.agents:
            self.dial(agent)
        self.beat_row()
        self.beat_leader()
        self.poll()

    # --- agents ---------------------------------------------------------------------------------------------

    def dial(self, name):
        agent = self.cluster.agents[name]
        if self.leaving:
            return
        if agent is None or not agent.alive or self.cluster.unreachable(self, name):
            self.later(0.1, self.dial, name)
            return
        connection = Connection(self.world, latency(self.world.random), self, agent)
        connection.agent, connection.name = name, f"{self.name}/{self.cluster.serial()}"
        self.agents[name] = connection
        connection.send(agent, agent.accept, connection, self)
        if self.leads():
            self.order(name, "list")

    def lost(self, connection):
        if self.agents.get(connection.agent) is not connection:
            return
        del self.agents[connection.agent]
        self.seen.pop(connection.agent, None)
        for worker in [worker for worker, (of, _) in self.at.items() if of is connection]:
            self.worker_gone(connection, worker)
        self.later(0.01, self.dial, connection.agent)

    def worker_ready(self, connection, worker, endpoint):
        self.at[worker] = connection, endpoint
        self.running[worker] = {}
        self.of_endpoint[endpoint][worker] = None
        self.want(self.slots.worker_ready(connection.agent, worker, endpoint))

    def worker_gone(self, connection, worker):
        if worker not in self.at:
            return
        _, endpoint = self.at.pop(worker)
        del self.of_endpoint[endpoint][worker]
        self.want(self.slots.worker_gone(worker))
        for request in self.running.pop(worker).values():
            request.done(False)

    def granted(self, connection, worker, tokens):
        self.slots.granted(worker, tokens)
        if worker in self.at:
            self.cluster.check_tokens(worker)
            self.pump(self.at[worker][1])

    def taken(self, connection, worker):
        self.slots.taken(worker)

    def recalled(self, connection, worker, tokens):
        for message in self.slots.recalled(worker, tokens, len(self.running.get(worker, ()))):
            self.cluster.messages["Return"] += 1
            agent = connection.other(self)
            connection.send(agent, agent.returned, connection, message.worker, message.tokens)

    def want(self, wants):
        for agent, endpoint, waiting in wants:
            if (connection := self.agents.get(agent)) is not None:
                self.cluster.messages["Want"] += 1
                to = connection.other(self)
                connection.send(to, to.wanted, connection, endpoint, waiting)
        if self.slots.due != self.wakes_at:
            self.wakes_at = due = self.slots.due
            if due < float("inf"):
                self.later(due - self.clock(), self.widen, due)

    def widen(self, due):
        if due == self.slots.due:
            self.want(self.slots.widen(max(self.clock(), due)))

    # --- requests -------------------------------------------------------------------------------------------

    def submit(self, endpoint, seconds, until, done):
        if self.leaving:
            done(False)
            return
        self.queues[endpoint].append(Request(endpoint, seconds, self.world.now, until, done))
        self.pump(endpoint)

    def pump(self, endpoint):
        queue, held = self.queues[endpoint], self.slots.held
        if queue:
            for worker in self.of_endpoint[endpoint]:
                running = self.running[worker]
                while queue and len(running) < held[worker]:
                    request = queue.popleft()
                    if request.until > self.world.now:
                        self.start(worker, running, request)
                if not queue:
                    break
        self.want(self.slots.waiting(endpoint, len(queue), self.clock()))

    def start(self, worker, running, request):
        number = self.cluster.serial()
        running[number] = request
        connection = self.at[worker][0]
        agent = connection.other(self)
        self.cluster.messages["Request"] += 1
        connection.send(agent, agent.request, connection, worker, number, request.seconds, request.since)

    def answered(self, connection, worker, number):
        if worker in self.running and (request := self.running[worker].pop(number, None)) is not None:
            self.cluster.messages["Answer"] += 1
            request.done(True)
            self.pump(request.endpoint)

    # --- leases ---------------------------------------------------------------------------------------------

    def beat_row(self):
        if self.leaving:
            return
        row, epoch, sent = self.row, self.alive_lease.epoch, self.clock()
        self.database.ask(
            self,
            lambda: self.database.beat_gateway(row, epoch),
            lambda has: self.row_answered(row, sent, has),
            lambda: self.unanswered(self.alive_lease, self.beat_row),
        )

    def row_answered(self, row, sent, has):
        if has:
            self.alive_lease.renewed(sent, 1)
        else:
            self.alive_lease.refused(self.clock())
            self.row = f"{self.name}.{self.cluster.serial()}"
            self.tasks.clear()  # others have them; what still runs of them is not recorded
        self.later(self.alive_lease.due - self.clock(), self.beat_row)

    def beat_leader(self):
        if self.leaving:
            return
        sent = self.clock()
        self.due_leader = None
        self.database.ask(
            self,
            lambda: self.database.beat_leader(self.name),
            lambda gave: self.leader_answered(sent, *gave),
            lambda: self.unanswered(self.leader, self.beat_leader),
        )

    def leader_answered(self, sent, epoch, left):
        if self.leaving:
            return
        if not epoch:
            self.leader.refused(self.clock(), left)
            self.seen.clear()
        else:
            new = epoch != self.leader.epoch
            self.leader.renewed(sent, epoch)
            if new:
                self.world.note(self.name, "leads in epoch", epoch)
                self.seen.clear()
                self.pulse()
            self.lead()
        self.due_leader = self.leader.due
        self.later(self.leader.due - self.clock(), self.leader_due, self.due_leader)

    def leader_due(self, due):
        if due == self.due_leader:
            self.beat_leader()

    def leader_left(self):
        if self.due_leader is not None and not self.leader.epoch:
            self.beat_leader()

    def unanswered(self, lease, beat):
        lease.unanswered(self.clock())
        if beat == self.beat_leader:
            self.due_leader = lease.due
            self.later(lease.due - self.clock(), self.leader_due, lease.due)
        else:
            self.later(lease.due - self.clock(), beat)

    # --- the leader -----------------------------------------------------------------------------------------

    def leads(self):
        return not self.leaving and self.leader.holds(self.clock())

    def lead(self):
        for agent in self.agents:
            self.order(agent, "list")
        if self.leads() and self.alive_lease.is_steady(self.clock()):
            self.cluster.check_leader(self)
            self.database.write(self, self.database.reap, lambda _: None, lambda: None)

    def order(self, agent, *order):
        if self.leads() and (connection := self.agents.get(agent)) is not None:
            self.cluster.check_leader(self)
            to = connection.other(self)
            connection.send(to, to.order, connection, self.leader.epoch, *order)

    def listed(self, connection, epoch, workers):
        """Start what a node lacks, counting what it was ordered to start already."""
        if epoch != self.leader.epoch or not self.leads() or not connection.open:
            return
        agent = connection.agent
        ordered = self.seen.setdefault(agent, {})
        for worker in workers:
            ordered.pop(worker, None)
        have = [*workers.values(), *ordered.values()]
        for endpoint, (number, slots) in self.cluster.wanted.items():
            for _ in range(number - have.count(endpoint)):
                worker = f"{agent}.w{self.cluster.serial()}"
                ordered[worker] = endpoint
                self.order(agent, "start", worker, endpoint, slots)

    def pulse(self):
        """Act as the leader does at any time, which nobody may who does not lead."""
        if self.leads():
            self.cluster.check_leader(self)
            self.later(0.03, self.pulse)

    # --- tasks ----------------------------------------------------------------------------------------------

    def poll(self):
        self.claim()
        if not self.leaving:
            self.later(POLL_SECONDS, self.poll)

    def submit_task(self, key, endpoint, seconds, done):
        database = self.database
        database.write(
            self, lambda: database.submit(key, endpoint, seconds), lambda _: done(True), lambda: done(False)
        )

    def claim(self):
        limit = MOST_CLAIMED - len(self.tasks)
        if self.claiming or self.leaving or limit <= 0 or not self.alive_lease.holds(self.clock()):
            return
        self.claiming = True
        row, known = self.row, set(self.tasks) if self.unsure else None
        self.database.write(
            self,
            lambda: self.database.claim(row, known, limit),
            lambda claimed: self.claimed(row, claimed),
            self.claim_failed,
        )

    def claim_failed(self):
        self.claiming, self.unsure = False, True

    def claimed(self, row, claimed):
        self.claiming = self.unsure = False
        for key, task in claimed if row == self.row else ():
            self.tasks[key] = None
            self.submit(
                task.endpoint, task.seconds, math.inf, lambda ok, key=key: self.task_ended(row, key, ok)
            )
        if len(claimed) == MOST_CLAIMED:
            self.claim()

    def task_ended(self, row, key, ok):
        """Record the result, or let another gateway run the task; try until the database has answered."""
        if row != self.row or self.leaving:
            return
        database = self.database
        database.write(
            self,
            lambda: database.record(row, key) if ok else database.release(row, key),
            lambda _: self.task_settled(key),
            lambda: self.later(0.1, self.task_ended, row, key, ok),
        )

    def task_settled(self, key):
        self.tasks.pop(key, None)
        self.claim()

    # --- the end --------------------------------------------------------------------------------------------

    def leave(self):
        """Hand over, as at SIGTERM: nothing new, and what runs ends."""
        self.leaving = True
        self.leader.give_up()
        for queue in self.queues.values():
            waiting = list(queue)
            queue.clear()
            for request in waiting:
                request.done(False)
        for endpoint in self.queues:
            self.pump(endpoint)
        self.give_up_row()
        self.later(0.3, self.kill)

    def give_up_row(self):
        name = self.name, self.row

        def leave():
            self.database.leave(name[0])
            self.database.leave(name[1])

        self.database.ask(self, leave, lambda _: None, lambda: self.later(0.05, self.give_up_row))
