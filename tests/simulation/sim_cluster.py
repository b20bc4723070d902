"""A whole cluster under a seed: what it consists of, who calls it, what befalls it, and which rules must hold."""

from collections import Counter

from sim_agent import Agent, Disk
from sim_database import Database
from sim_gateway import Gateway
from sim_world import Process, World

SERVED_SECONDS = 3.0
"""After the last fault, everything has been served within this time."""
RECOVERED_SECONDS = 2.5
"""After the last fault, every slot serves again within this time: then the work that was left can have an end."""
MET_SECONDS = 0.005
"""A free slot and a waiting request meet within this time where nothing is broken."""
READY_SECONDS = 0.3
"""When the first leader has started the workers."""
FAULTS_SECONDS = 2.0
"""Faults begin within this time, and in calm seeds the last request."""
CALM_SECONDS = 1.0
"""Where nothing is broken, the last request has been served within this time."""
IDLE_SECONDS = 0.25
"""Where nothing is broken, slots with work to do have not used more than this time for anything else."""
CALM = 4
"""One seed of this number is without faults."""


class Cluster:
    def __init__(self, seed, trace=None):
        self.world = world = World(seed)
        world.trace = trace
        self.random = random = world.random
        self.calm = seed % CALM == 0
        self.messages = Counter()
        self._serial = 0
        self.database = Database(world)
        self.wanted = {
            f"e{n}": (random.randint(1, 2), random.randint(1, 3)) for n in range(random.randint(1, 2))
        }
        """By endpoint: workers at each agent, and the slots of each."""
        self.drained, self.draining = set(), set()
        self.agents = {f"a{n}": None for n in range(random.randint(1, 3))}
        self.disks = {name: Disk() for name in self.agents}
        self.gateways = []
        self.cables = {}  # (gateway's name, agent's name) -> until when it is pulled
        for name in self.agents:
            self.start_agent(name)
        for _ in range(random.randint(1, 4)):
            self.start_gateway()
        self.last_fault = FAULTS_SECONDS
        self.client = Client(self)
        if not self.calm:
            Faults(self).plan()

    def serial(self):
        self._serial += 1
        return self._serial

    def start_agent(self, name):
        self.agents[name] = Agent(self, name, self.disks[name])

    def start_gateway(self):
        self.gateways.append(Gateway(self, f"g{self.serial()}"))

    def unreachable(self, gateway, agent):
        return self.cables.get((gateway.name, agent), 0.0) > self.world.now

    # --- the rules ------------------------------------------------------------------------------------------

    def check_leader(self, gateway):
        row, world = self.database.leader, self.world
        world.check(
            row.holder == gateway.name
            and row.epoch == gateway.leader.epoch
            and row.until > self.database.clock(),
            gateway.name,
            "acts in epoch",
            gateway.leader.epoch,
            "and the lease is",
            row,
        )

    def check_tokens(self, worker):
        """A slot is held by one gateway: no more requests can be sent, over open connections, than slots are free."""
        usable, free = 0, None
        for gateway in self.gateways:
            if gateway.alive and (at := gateway.at.get(worker)) is not None and at[0].open:
                usable += gateway.slots.held[worker] - len(gateway.running[worker])
                free = at[0].other(gateway).idle_since.get(worker)
        self.world.check(free is None or usable <= len(free), usable, "requests can be sent to", worker)

    def met(self, seconds):
        self.world.check(seconds <= MET_SECONDS, "a free slot and a waiting request took", seconds)

    def check_met(self):
        """Look at what has not met at all."""
        for endpoint in self.wanted:
            waits = [queue[0].since for gateway in self.gateways if (queue := gateway.queues[endpoint])]
            idle = [
                agent.idle_since[worker][0]
                for agent in self.agents.values()
                for worker, (of, _) in agent.workers.items()
                if of == endpoint and agent.idle_since[worker]
            ]
            if waits and idle:
                self.met(self.world.now - max(min(waits), min(idle)))

    def most_seconds(self):
        """Return within which time all is to be served from now on: no slot can do more work than there is time."""
        served, lost = (CALM_SECONDS, IDLE_SECONDS) if self.calm else (SERVED_SECONDS, RECOVERED_SECONDS)
        return max(served, lost + self.work_left())

    def work_left(self):
        """Return how long the slots of an endpoint need at least for what has not ended."""
        left = dict.fromkeys(self.wanted, 0.0)
        tasks = self.database.tasks
        for name in [*self.client.open, *(key for key in self.client.accepted if not tasks[key].recorded)]:
            endpoint, seconds = self.client.work[name]
            workers, slots = self.wanted[endpoint]
            left[endpoint] += seconds / (workers * slots * len(self.agents))
        return max(left.values())

    def check_served(self):
        world = self.world
        missing = [name for name, since in self.client.open.items() if since <= self.last_fault]
        world.check(not missing, len(missing), "requests are not answered:", *missing[:5])
        waiting = [key for key, since in self.client.accepted.items() if since <= self.last_fault]
        lost = [key for key in waiting if not self.database.tasks[key].recorded]
        world.check(not lost, len(lost), "accepted tasks have not ended:", *lost[:5])
        draining = [
            worker for agent in self.agents.values() for worker in self.draining & agent.workers.keys()
        ]
        world.check(not draining, "drained workers have not ended:", *draining)
        twice = [key for key, task in self.database.tasks.items() if task.recorded > 1]
        world.check(not twice, "recorded more than once:", *twice)

    def run(self):
        world = self.world
        if self.calm:
            for _ in range(20):
                world.at(world.random.uniform(READY_SECONDS, self.last_fault), self.check_met)
        world.run(FAULTS_SECONDS)
        while world.now < self.last_fault:
            world.run(self.last_fault)
        world.run(world.now + self.most_seconds())
        self.check_served()


class Client(Process):
    """All clients: they send to any gateway, and send again to another one what fails or is late."""

    RETRY_SECONDS = 1.0

    def __init__(self, cluster):
        super().__init__(cluster.world, "client")
        self.cluster = cluster
        self.open, self.accepted = {}, {}
        self.work = {}  # name -> endpoint and seconds
        self.attempts = Counter()
        random = cluster.random
        until = FAULTS_SECONDS if cluster.calm else FAULTS_SECONDS + 0.2
        at = READY_SECONDS if cluster.calm else READY_SECONDS / 2
        capacity = sum(workers * slots for workers, slots in cluster.wanted.values()) * len(cluster.agents)
        for number in range(random.randint(10, 40)):
            at += random.expovariate(min(capacity, 12) * 4)
            if at > until:
                break
            for twin in range(random.choice((1, 1, 1, 1, 6))):
                name = f"{number}.{twin}"
                task = random.random() < 0.3
                endpoint = random.choice(list(cluster.wanted))
                seconds = random.expovariate(1 / 0.02) if not task else random.choice((0.001, 0.02, 0.2))
                self.world.at(at, self.call, name, task, endpoint, min(seconds, 0.5))

    def call(self, name, task, endpoint, seconds):
        self.open[name] = self.world.now
        self.work[name] = endpoint, seconds
        self.send(name, task, endpoint, seconds)

    def send(self, name, task, endpoint, seconds, attempt=0):
        """Send a request, unless a later attempt of it has been made."""
        if name not in self.open or attempt != self.attempts[name]:
            return
        self.attempts[name] = attempt = attempt + 1
        random = self.cluster.random
        serving = [gateway for gateway in self.cluster.gateways if gateway.alive and not gateway.leaving]
        again = [name, task, endpoint, seconds, attempt]
        if not serving:
            self.later(0.05, self.send, *again)
            return
        gateway = random.choice(serving)
        answered = self.when_answered(gateway, name, task, again)
        if task:
            self.world.at(self.world.now, gateway.do, gateway.submit_task, name, endpoint, seconds, answered)
        else:
            until = self.world.now + self.RETRY_SECONDS
            self.world.at(self.world.now, gateway.do, gateway.submit, endpoint, seconds, until, answered)
        retry = self.RETRY_SECONDS if random.random() < 0.9 else 0.05  # some are sent twice
        self.later(retry, self.send, *again)

    def when_answered(self, gateway, name, task, again):
        def answered(ok):
            if not gateway.alive or name not in self.open:
                return
            if ok:
                since = self.open.pop(name)
                if task:
                    self.accepted[name] = since
            else:
                self.later(0.02, self.send, *again)

        return answered


class Faults:
    """What befalls a cluster, at random times; the last one has ended by `last_fault`."""

    def __init__(self, cluster):
        self.cluster, self.world, self.random = cluster, cluster.world, cluster.random

    def plan(self):
        kinds = [
            self.gateway_killed,
            self.gateway_paused,
            self.gateway_stopped,
            self.leader_killed,
            self.leader_paused,
        ]
        kinds += [self.agent_killed, self.agent_paused, self.worker_killed, self.worker_drained]
        kinds += [self.cut, self.cable_pulled, self.database_away, self.database_hung, self.answers_lost]
        for _ in range(self.random.randint(1, 4)):
            self.world.at(self.random.uniform(0.1, FAULTS_SECONDS), self.befall, self.random.choice(kinds))

    def befall(self, kind):
        duration = self.random.choice((0.05, 0.3, 1.0, 2.2)) * self.random.uniform(0.8, 1.2)
        self.world.note(kind.__name__, duration)
        kind(duration)

    def ends(self, seconds):
        self.cluster.last_fault = max(self.cluster.last_fault, self.world.now + seconds)

    def gateway(self, leader=False):
        serving = [gateway for gateway in self.cluster.gateways if gateway.alive and not gateway.leaving]
        leading = [gateway for gateway in serving if gateway.leads()]
        return self.random.choice((leading if leader else None) or serving or [None])

    def agent(self):
        return self.random.choice([agent for agent in self.cluster.agents.values() if agent.alive] or [None])

    def gateway_killed(self, seconds, leader=False):
        if (gateway := self.gateway(leader)) is None:
            return
        self.world.note("killed", gateway.name)
        gateway.kill()
        serving = [gateway for gateway in self.cluster.gateways if gateway.alive and not gateway.leaving]
        if not serving or self.random.random() < 0.5:
            self.ends(seconds)
            self.world.at(self.world.now + seconds, self.cluster.start_gateway)
        else:
            self.ends(0)

    def leader_killed(self, seconds):
        self.gateway_killed(seconds, leader=True)

    def gateway_paused(self, seconds, leader=False):
        if (gateway := self.gateway(leader)) is not None and not gateway.paused:
            self.world.note("paused", gateway.name)
            gateway.pause(seconds)
            self.ends(seconds)

    def leader_paused(self, seconds):
        self.gateway_paused(seconds, leader=True)

    def gateway_stopped(self, seconds):
        if (gateway := self.gateway(self.random.random() < 0.5)) is not None and not gateway.paused:
            self.world.note("stopped", gateway.name)
            gateway.leave()
            self.ends(seconds)
            self.world.at(self.world.now + seconds, self.cluster.start_gateway)

    def agent_killed(self, seconds):
        if (agent := self.agent()) is not None:
            self.world.note("killed", agent.name)
            agent.kill()
            self.ends(seconds)
            self.world.at(self.world.now + seconds, self.cluster.start_agent, agent.name)

    def agent_paused(self, seconds):
        if (agent := self.agent()) is not None and not agent.paused:
            self.world.note("paused", agent.name)
            agent.pause(seconds)
            self.ends(seconds)

    def worker_killed(self, seconds):
        if (agent := self.agent()) is not None and agent.workers:
            self.ends(0)
            self.world.at(
                self.world.now, agent.do, agent.worker_ended, self.random.choice(list(agent.workers))
            )

    def worker_drained(self, seconds):
        leader = self.gateway(leader=True)
        if leader is not None and leader.leads() and leader.seen:
            name = self.random.choice(list(leader.seen))
            if name in leader.agents and (workers := self.cluster.agents[name].workers):
                self.ends(0)
                leader.do(leader.order, name, "drain", self.random.choice(list(workers)))

    def connection(self):
        gateway = self.gateway()
        return gateway and self.random.choice([*gateway.agents.values()] or [None])

    def cut(self, seconds):
        if (connection := self.connection()) is not None:
            connection.close()
            self.ends(0)

    def cable_pulled(self, seconds):
        if (connection := self.connection()) is not None:
            gateway = connection.ends[0]
            self.cluster.cables[gateway.name, connection.agent] = self.world.now + seconds
            connection.freeze(seconds)
            self.ends(seconds)

    def database_away(self, seconds):
        self.cluster.database.away_until = self.world.now + seconds
        self.ends(seconds)

    def database_hung(self, seconds):
        self.cluster.database.hung_until = self.world.now + seconds
        self.ends(seconds)

    def answers_lost(self, seconds):
        self.cluster.database.losing = 0.3
        self.ends(seconds)
        self.world.at(self.world.now + seconds, self.cluster.database.__setattr__, "losing", 0.0)
