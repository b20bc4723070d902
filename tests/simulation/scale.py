"""The cluster of the simulation, as large as is asked: how many messages and statements requests and time take.

`python tests/simulation/scale.py 1000 100000 64` has this number of nodes, workers and gateways. Each worker has one
slot, and ten are of one endpoint. Nothing fails. Each gateway gets requests of 50 ms for any endpoint, some as tasks.
"""

import sys
import time
from collections import Counter

import sim_world
from sim_agent import Agent, Disk
from sim_cluster import Cluster
from sim_database import Database, Task
from sim_gateway import Gateway
from sim_world import Process, World

PER_ENDPOINT = 10
REQUESTS_PER_SECOND = 100
"""Of each gateway."""
TASKS = 0.1
"""The share of requests that are tasks."""
WORK_SECONDS = 0.05
SECONDS = 2.0
BEATS = 4
"""Of both ends of a connection, in a second."""


class LargeAgent(Agent):
    """An agent whose gateways know its workers at once: so many messages take very long here."""

    def accept(self, connection, gateway):
        self.links[connection.name] = connection
        for worker, (endpoint, _) in self.workers.items():
            gateway.worker_ready(connection, worker, endpoint)
        self.send(self.slots.gateway_joined(connection.name))


class LargeDatabase(Database):
    """The database, which names a new task to no other server: there are slots for it where it came."""

    def submit(self, key, endpoint, seconds):
        self.tasks[key] = self.waiting[key] = Task(endpoint, seconds)


class LargeGateway(Gateway):
    """A gateway that starts no workers: they are there. It claims the tasks that come to it."""

    def submit_task(self, key, endpoint, seconds, done):
        def stored(_):
            done(True)
            self.claim()

        self.database.write(
            self, lambda: self.database.submit(key, endpoint, seconds), stored, lambda: done(False)
        )

    def lead(self):
        self.database.write(self, self.database.reap, lambda _: None, lambda: None)


class Large(Cluster):
    """A cluster of a size, without faults. The rules are checked elsewhere, with those."""

    def __init__(self, nodes, workers, gateways):
        self.world = world = World(1)
        self.random, self.calm = world.random, False
        self.messages, self._serial = Counter(), 0
        self.database = LargeDatabase(world)
        self.endpoints = [f"e{n}" for n in range(workers // PER_ENDPOINT)]
        self.wanted = dict.fromkeys(self.endpoints, (0, 1))
        self.drained, self.draining, self.cables = set(), set(), {}
        names = [f"a{n}" for n in range(nodes)]
        self.agents = {name: LargeAgent(self, name, Disk()) for name in names}
        for number in range(workers):
            agent, worker = self.agents[names[number % nodes]], f"w{number}"
            agent.ordered[worker] = None
            agent.ready(worker, self.endpoints[number // PER_ENDPOINT], 1)
        self.gateways = []
        for number in range(gateways):
            self.gateways.append(LargeGateway(self, f"g{number}"))
            world.run(world.now + 0.01)
        world.run(world.now + 0.5)

    def check_tokens(self, worker):
        """Look at nothing: that all gateways are asked for each token is too slow here."""

    def run(self):
        """Have requests for some seconds; return what was counted."""
        world = self.world
        callers = Process(world, "callers")
        self.messages.clear()
        before, began = self.database.statements, world.now
        answered = Counter()
        waits = []

        def call(gateway, is_task):
            endpoint, sent = self.random.choice(self.endpoints), world.now
            if is_task:
                name = f"t{self.serial()}"
                gateway.submit_task(name, endpoint, WORK_SECONDS, lambda ok: answered.update(tasks=ok))
            else:

                def done(ok):
                    answered.update(requests=ok)
                    waits.append(world.now - sent - WORK_SECONDS)

                gateway.submit(endpoint, WORK_SECONDS, sent + 60, done)

        for gateway in self.gateways:
            at = began
            while (at := at + self.random.expovariate(REQUESTS_PER_SECOND)) < began + SECONDS:
                world.at(at, callers.do, call, gateway, self.random.random() < TASKS)
        world.run(began + SECONDS)
        statements = (self.database.statements - before) / SECONDS
        world.run(world.now + 1.0)
        return answered, statements, sorted(waits)


def main(nodes, workers, gateways):
    sim_world.MOST_EVENTS = 10**12
    started = time.monotonic()
    cluster = Large(nodes, workers, gateways)
    answered, statements, waits = cluster.run()
    count = answered["requests"] + answered["tasks"]
    idle = gateways * (2 + 2 + 2)  # the leases of server and leader, and the look for tasks
    print(f"{nodes} nodes, {workers} workers, {gateways} gateways: {count / SECONDS:,.0f} requests/s")
    each = {kind: round(number / count, 2) for kind, number in cluster.messages.items()}
    print(f"  messages of a request: {sum(cluster.messages.values()) / count:.2f}, which are {each}")
    print(f"  beats/s of a gateway: {nodes * BEATS}, of all: {nodes * gateways * BEATS:,}")
    of_task = (statements - idle) / (answered["tasks"] / SECONDS)
    print(f"  statements/s: {statements:,.0f}, without requests about {idle}; of a task {of_task:.1f}")
    middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(f"  a request waits {1000 * middle:.2f} ms (p50), {1000 * late:.2f} ms (p99) beside its work")
    print(f"  {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
