"""A node agent with its workers, as far as slots and the leader's orders are concerned."""

from sim_world import Process

from openlaunch.nodes.epochs import Epochs
from openlaunch.nodes.slots import AgentSlots, Grant, Recall

START_SECONDS = 0.03


class Disk:
    """What an agent finds when it starts anew."""

    def __init__(self):
        self.epoch = 0
        self.obeyed = 0  # of the rules' check, and not of the agent


class Agent(Process):
    def __init__(self, cluster, name, disk):
        super().__init__(cluster.world, name)
        self.cluster, self.disk = cluster, disk
        self.slots, self.epochs = AgentSlots(), Epochs(disk.epoch)
        self.workers = {}  # name -> (endpoint, slots)
        self.idle_since = {}  # name -> times since when its free slots have been free
        self.running = {}  # run -> (worker, connection, request)
        self.links = {}  # name of a connection -> connection
        self.ordered = {}  # workers that start: name -> endpoint and slots
        self.leader = None
        self.serial = 0

    # --- gateways -------------------------------------------------------------------------------------------

    def accept(self, connection, gateway):
        self.links[connection.name] = connection
        for worker, (endpoint, _) in self.workers.items():
            connection.send(gateway, gateway.worker_ready, connection, worker, endpoint)
        self.send(self.slots.gateway_joined(connection.name))

    def lost(self, connection):
        if self.links.pop(connection.name, None) is None:
            return
        if self.leader is connection:
            self.leader = None
        messages, cancel = self.slots.gateway_gone(connection.name)
        self.send(messages)
        for worker, run in cancel:
            self.later(0.002, self.end, worker, run)
        for worker in list(self.workers):
            self.end_drained(worker)

    def send(self, messages):
        for message in messages:
            connection = self.links[message.gateway]
            gateway = connection.ends[0]
            self.cluster.messages[type(message).__name__] += 1
            if isinstance(message, Grant):
                connection.send(gateway, gateway.granted, connection, message.worker, message.tokens)
            elif isinstance(message, Recall):
                connection.send(gateway, gateway.recalled, connection, message.worker, message.tokens)
            else:
                connection.send(gateway, gateway.taken, connection, message.worker)

    def wanted(self, connection, endpoint, waiting):
        if connection.name in self.links:
            self.send(self.slots.wanted(connection.name, endpoint, waiting))

    def returned(self, connection, worker, tokens):
        if connection.name in self.links:
            self.send(self.slots.returned(connection.name, worker, tokens))
            self.end_drained(worker)

    def request(self, connection, worker, request, seconds, since):
        if connection.name not in self.links:
            return
        run = self.cluster.serial()
        world = self.world
        if not self.slots.started(connection.name, worker, run):
            world.check(worker not in self.workers, "a request came to", worker, "without a token")
            world.check(
                worker not in self.cluster.drained, "a request came to", worker, "that had been drained"
            )
            return
        idle = self.idle_since[worker]
        world.check(idle, worker, "got more requests than it has slots")
        if self.cluster.calm:
            together = world.now - max(idle[0], since)
            self.cluster.met(together)
        idle.pop(0)
        self.running[run] = worker, connection, request
        self.later(seconds, self.end, worker, run)

    def end(self, worker, run):
        if run not in self.running:
            return
        _, connection, request = self.running.pop(run)
        self.idle_since[worker].append(self.world.now)
        self.send(self.slots.ended(worker, run))
        connection.send(connection.ends[0], connection.ends[0].answered, connection, worker, request)
        self.end_drained(worker)

    # --- workers --------------------------------------------------------------------------------------------

    def ready(self, worker, endpoint, slots):
        del self.ordered[worker]
        self.workers[worker] = endpoint, slots
        self.idle_since[worker] = [self.world.now] * slots
        for connection in self.links.values():
            connection.send(connection.ends[0], connection.ends[0].worker_ready, connection, worker, endpoint)
        self.send(self.slots.worker_ready(worker, endpoint, slots))
        self.report()

    def worker_ended(self, worker):
        if worker not in self.workers:
            return
        del self.workers[worker], self.idle_since[worker]
        for run in self.slots.worker_gone(worker):
            del self.running[run]
        for connection in self.links.values():
            connection.send(connection.ends[0], connection.ends[0].worker_gone, connection, worker)
        self.report()

    def end_drained(self, worker):
        if worker in self.workers and self.slots.is_drained(worker):
            self.world.check(
                not any(worker == of for of, *_ in self.running.values()), worker, "was ended with requests"
            )
            self.cluster.drained.add(worker)
            self.worker_ended(worker)

    # --- the leader -----------------------------------------------------------------------------------------

    def order(self, connection, epoch, order, *args):
        if not self.epochs.obeys(epoch):
            return
        self.disk.epoch = self.epochs.highest
        self.world.check(
            epoch >= self.disk.obeyed, self.name, "obeyed epoch", epoch, "after", self.disk.obeyed
        )
        self.disk.obeyed = epoch
        self.leader = connection
        getattr(self, order)(*args)

    def list(self):
        self.report()

    def start(self, worker, endpoint, slots):
        self.ordered[worker] = endpoint, slots
        have = [of for of, _ in [*self.workers.values(), *self.ordered.values()]].count(endpoint)
        most = self.cluster.wanted[endpoint][0] + sum(self.slots_draining(endpoint))
        self.world.check(have <= most, self.name, "was ordered to run", have, "workers of", endpoint)
        self.later(START_SECONDS, self.ready, worker, endpoint, slots)
        self.report()

    def slots_draining(self, endpoint):
        return [worker in self.cluster.draining for worker, (of, _) in self.workers.items() if of == endpoint]

    def drain(self, worker):
        if worker in self.workers:
            self.cluster.draining.add(worker)
            self.send(self.slots.drain(worker))
            self.end_drained(worker)

    def report(self):
        if self.leader is not None and self.leader.open:
            workers = {
                worker: endpoint
                for worker, (endpoint, _) in [*self.workers.items(), *self.ordered.items()]
                if worker not in self.cluster.draining
            }
            gateway = self.leader.ends[0]
            self.leader.send(gateway, gateway.listed, self.leader, self.epochs.highest, workers)
