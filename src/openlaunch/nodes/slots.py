"""Who may send a request to which worker: each slot of a worker is a token that one gateway holds, or none.

The node agent (`AgentSlots`) owns the tokens of its workers. A gateway (`GatewaySlots`) sends a request to a worker
only with a token for it, and has the token again when the request has ended. A request that finds a token asks
nobody. A gateway whose requests wait says so (`Want`), and an agent moves tokens to it: one at the end of a request
(`Take` from one gateway, `Grant` to the other), or an unused one (`Recall`, which the gateway answers with `Return`).

Messages between one agent and one gateway must arrive in the order in which they were sent, together with the
requests and their answers. A closed connection ends what was held through it.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from openlaunch.wire.endpoint_settings import MAX_PER_WORKER

FIRST_ASKED = 2
"""How many agents a gateway asks first when its requests wait."""
WIDEN_SECONDS = 0.001
"""After how long it asks more of them, while requests wait."""
WIDEN_FACTOR = 8
"""How many times as many it has asked then."""


class Grant(NamedTuple):
    """Agent to gateway: hold this number of tokens more."""

    gateway: str
    worker: str
    tokens: int


class Take(NamedTuple):
    """Agent to gateway, before the answer of the request that held it: the token is another gateway's."""

    gateway: str
    worker: str


class Recall(NamedTuple):
    """Agent to gateway: return as many tokens as you have no request for. It is always answered."""

    gateway: str
    worker: str
    tokens: int


class Want(NamedTuple):
    """Gateway to agent: this number of requests wait for a worker of the endpoint; 0: none does."""

    agent: str
    endpoint: str
    waiting: int


class Return(NamedTuple):
    """Gateway to agent: the answer to a `Recall`, with the number of tokens returned."""

    agent: str
    worker: str
    tokens: int


FromAgent: TypeAlias = Grant | Take | Recall


class _Worker:
    """The tokens of one worker: free ones, and those of each gateway, used or not."""

    def __init__(self, endpoint: str, slots: int) -> None:
        self.endpoint = endpoint
        self.free = slots
        self.held: dict[str, int] = {}
        self.used: dict[str, int] = {}
        """How many of those held have a request."""
        self.recalled: dict[str, int] = {}
        """By gateway: how many tokens it was asked for and has not answered."""
        self.running: dict[int, str] = {}
        """By request: its gateway, connected or gone."""
        self.draining = False

    def unused(self) -> Iterator[tuple[str, int]]:
        """Yield each gateway with unused tokens, as far as is known here, and how many can be recalled."""
        for gateway, held in self.held.items():
            if held > self.used.get(gateway, 0) and gateway not in self.recalled:
                yield gateway, held - self.used.get(gateway, 0)

    def take(self, gateway: str, tokens: int) -> None:
        """Move tokens from a gateway to the free ones."""
        _lower(self.held, gateway, tokens)
        self.free += tokens

    def grant(self, gateway: str) -> None:
        """Move a free token to a gateway."""
        self.free -= 1
        self.held[gateway] = self.held.get(gateway, 0) + 1


class _Turns:
    """The gateways whose requests wait for one endpoint. They take turns, weighted by how many wait."""

    def __init__(self) -> None:
        self.waiting: dict[str, int] = {}
        self._credit: dict[str, int] = {}

    def set(self, gateway: str, waiting: int) -> None:
        if waiting > 0:
            self.waiting[gateway] = waiting
        else:
            self.waiting.pop(gateway, None)
            self._credit.pop(gateway, None)

    def next(self) -> str:
        """Choose who is next. Each gains credit by its weight, and the one chosen pays what all have gained."""
        for gateway, weight in self.waiting.items():
            self._credit[gateway] = self._credit.get(gateway, 0) + weight
        chosen = max(self.waiting, key=self._credit.__getitem__)
        self._credit[chosen] -= sum(self.waiting.values())
        return chosen


class AgentSlots:
    """The agent's side: gives the slots of the node's workers to gateways, each to one at a time.

    A gateway is a *connection*: one that connects again has another name, and the tokens of its former connection are
    free once that is closed. The methods return what to send, in this order.
    """

    def __init__(self) -> None:
        self._gateways: deque[str] = deque()
        self._workers: dict[str, _Worker] = {}
        self._of_endpoint: dict[str, dict[str, _Worker]] = {}
        self._turns: dict[str, _Turns] = {}

    def gateway_joined(self, gateway: str) -> list[FromAgent]:
        """Spread what nobody holds to the gateways, of which there is one more."""
        self._gateways.append(gateway)
        return [message for endpoint in self._of_endpoint for message in self._give(endpoint)]

    def gateway_gone(self, gateway: str) -> tuple[list[FromAgent], list[tuple[str, int]]]:
        """Free the tokens of a closed connection; return also the requests to cancel, each with its worker.

        A slot in which a request of the gateway runs is free at its `ended`, and not before.
        """
        self._gateways.remove(gateway)
        cancel = []
        for name, worker in self._workers.items():
            worker.free += worker.held.pop(gateway, 0) - worker.used.pop(gateway, 0)
            worker.recalled.pop(gateway, None)
            cancel += [(name, request) for request, of in worker.running.items() if of == gateway]
        for turns in self._turns.values():
            turns.set(gateway, 0)
        return [message for endpoint in self._of_endpoint for message in self._give(endpoint)], cancel

    def worker_ready(self, worker: str, endpoint: str, slots: int) -> list[FromAgent]:
        """Give the slots of a new worker to gateways. They have to know the worker before."""
        self._workers[worker] = self._of_endpoint.setdefault(endpoint, {})[worker] = _Worker(endpoint, slots)
        return self._give(endpoint)

    def worker_gone(self, worker: str) -> dict[int, str]:
        """Forget a worker, whose tokens are void; return the requests that ran in it, each with its gateway."""
        gone = self._workers.pop(worker)
        del self._of_endpoint[gone.endpoint][worker]
        if not self._of_endpoint[gone.endpoint]:
            del self._of_endpoint[gone.endpoint]
            self._turns.pop(gone.endpoint, None)
        return gone.running

    def drain(self, worker: str) -> list[FromAgent]:
        """Take the tokens of a worker that is to end back, each as soon as it is not used."""
        self._workers[worker].draining = True
        return self._recall_all(worker)

    def is_drained(self, worker: str) -> bool:
        """Return whether nothing runs in a draining worker and no gateway can send it a request.

        Ask after `drain`, `returned` and `ended`, and of each worker after `gateway_gone`.
        """
        drained = self._workers[worker]
        return drained.draining and not drained.held and not drained.running

    def wanted(self, gateway: str, endpoint: str, waiting: int) -> list[FromAgent]:
        """Note how many requests wait at a gateway for an endpoint, and move tokens that nobody uses to it."""
        if endpoint not in self._of_endpoint:
            return []
        self._turns.setdefault(endpoint, _Turns()).set(gateway, waiting)
        return self._give(endpoint)

    def returned(self, gateway: str, worker: str, tokens: int) -> list[FromAgent]:
        """Give away what a gateway returned. Raises ValueError: it was not asked for that many."""
        if (of := self._workers.get(worker)) is None:
            return []
        if not 0 <= tokens <= of.recalled.get(gateway, -1):
            raise ValueError(f"{tokens} tokens of worker {worker} were returned, which were not recalled")
        del of.recalled[gateway]
        if tokens:
            of.take(gateway, tokens)
        return self._recall_all(worker) if of.draining else self._give(of.endpoint)

    def started(self, gateway: str, worker: str, request: int) -> bool:
        """Note that a request has come for a worker; return False if its gateway holds no token for it: refuse it."""
        of = self._workers.get(worker)
        if of is None or of.used.get(gateway, 0) >= of.held.get(gateway, 0):
            return False
        of.used[gateway] = of.used.get(gateway, 0) + 1
        of.running[request] = gateway
        return True

    def ended(self, worker: str, request: int) -> list[FromAgent]:
        """Decide who has the slot of a request that has ended. Send what is returned *before* its answer."""
        of = self._workers[worker]
        gateway = of.running.pop(request)
        if gateway not in of.used:  # its connection is closed
            of.free += 1
            return self._give(of.endpoint)
        _lower(of.used, gateway, 1)
        if of.draining:
            of.take(gateway, 1)
            return [Take(gateway, worker)]
        turns = self._turns[of.endpoint]
        if not turns.waiting or (chosen := turns.next()) == gateway:
            return []
        turns.set(chosen, turns.waiting[chosen] - 1)
        of.take(gateway, 1)
        of.grant(chosen)
        return [Take(gateway, worker), Grant(chosen, worker, 1)]

    def _give(self, endpoint: str) -> list[FromAgent]:
        """Give free tokens to those who wait, then to all in turns; recall unused ones for those who still wait."""
        turns = self._turns.setdefault(endpoint, _Turns())
        given: dict[tuple[str, str], int] = {}
        for name, worker in self._of_endpoint[endpoint].items():
            while worker.free and self._gateways and not worker.draining:
                gateway = self._next(turns)
                worker.grant(gateway)
                given[gateway, name] = given.get((gateway, name), 0) + 1
        grants = [Grant(gateway, name, tokens) for (gateway, name), tokens in given.items()]
        return [*grants, *self._recall(endpoint, turns)]

    def _next(self, turns: _Turns) -> str:
        if turns.waiting:
            gateway = turns.next()
            turns.set(gateway, turns.waiting[gateway] - 1)
            return gateway
        self._gateways.rotate(-1)
        return self._gateways[-1]

    def _recall(self, endpoint: str, turns: _Turns) -> Iterator[FromAgent]:
        if not turns.waiting:
            return
        workers = self._of_endpoint[endpoint]
        needed = sum(turns.waiting.values()) - sum(
            sum(worker.recalled.values()) for worker in workers.values()
        )
        for name, worker in workers.items():
            for gateway, unused in worker.unused():
                if needed > 0 and gateway not in turns.waiting:
                    worker.recalled[gateway] = tokens = min(unused, needed)
                    needed -= tokens
                    yield Recall(gateway, name, tokens)

    def _recall_all(self, worker: str) -> list[FromAgent]:
        of = self._workers[worker]
        unused = list(of.unused())
        of.recalled.update(unused)
        return [Recall(gateway, worker, tokens) for gateway, tokens in unused]


class _Asked:
    """What a gateway has said to the agents of one endpoint."""

    def __init__(self) -> None:
        self.workers: dict[str, int] = {}
        """By agent: its workers for the endpoint."""
        self.order: deque[str] = deque()
        """The agents; the one that is asked first next time is in front."""
        self.waiting = 0
        self.said = 0
        """How many requests waited when all asked agents were last informed."""
        self.left: dict[str, int] = {}
        """By agent that was asked: how many tokens more it is going to give."""
        self.widen_at = math.inf


class GatewaySlots:
    """The gateway's side: the tokens that it holds, and which agents it asks for more.

    `held[worker]` is the worker's number of slots for this gateway; a request may be sent to it while fewer run.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.due = math.inf
        """When to call `widen`."""
        self._at: dict[str, tuple[str, str]] = {}
        """By worker: its agent and endpoint."""
        self._asked: dict[str, _Asked] = {}

    def worker_ready(self, agent: str, worker: str, endpoint: str) -> list[Want]:
        """Note a worker, without a token so far; return what to send to its agent if requests wait."""
        self.held[worker] = 0
        self._at[worker] = agent, endpoint
        asked = self._asked.setdefault(endpoint, _Asked())
        asked.workers[agent] = asked.workers.get(agent, 0) + 1
        if asked.workers[agent] > 1:
            return []
        asked.order.appendleft(agent)
        return self._say(endpoint, asked, [agent]) if asked.waiting else []

    def worker_gone(self, worker: str) -> list[Want]:
        """Forget a worker and its tokens. What is returned is for its agent, if that is still connected."""
        del self.held[worker]
        agent, endpoint = self._at.pop(worker)
        asked = self._asked[endpoint]
        asked.workers[agent] -= 1
        if asked.workers[agent]:
            return []
        del asked.workers[agent]
        asked.order.remove(agent)
        left = asked.left.pop(agent, None)
        if not asked.workers and not asked.waiting:
            del self._asked[endpoint]
        return [] if left is None else [Want(agent, endpoint, 0)]

    def granted(self, worker: str, tokens: int) -> None:
        """Note more tokens. Use them, and then call `waiting` with what still waits, changed or not.

        Raise ValueError where no worker has as many.
        """
        if worker not in self.held:
            return
        if self.held[worker] + tokens > MAX_PER_WORKER:
            raise ValueError(f"{tokens} tokens more of worker {worker}, and none has over {MAX_PER_WORKER}")
        self.held[worker] += tokens
        agent, endpoint = self._at[worker]
        asked = self._asked[endpoint]
        if agent in asked.left:
            asked.left[agent] = max(asked.left[agent] - tokens, 0)

    def taken(self, worker: str) -> None:
        """Note that a request's token is another gateway's from the end of that request on.

        Raise ValueError where there is none.
        """
        if worker in self.held:
            if not self.held[worker]:
                raise ValueError(f"a token of worker {worker} was taken, and none is held")
            self.held[worker] -= 1

    def recalled(self, worker: str, tokens: int, running: int) -> list[Return]:
        """Return as many of the tokens as are not used, now that this number of requests run in the worker."""
        if worker not in self.held:
            return []
        tokens = max(0, min(tokens, self.held[worker] - running))
        self.held[worker] -= tokens
        return [Return(self._at[worker][0], worker, tokens)]

    def waiting(self, endpoint: str, waiting: int, now: float) -> list[Want]:
        """Say how many requests wait for an endpoint, none of which finds a token here; return whom to inform.

        Agents are informed only of what changes much. A few are asked first, and more while requests still wait.
        """
        asked = self._asked.setdefault(endpoint, _Asked())
        asked.waiting = waiting
        if not waiting:
            return self._stop(endpoint, asked)
        if not asked.left:
            return self._ask(endpoint, asked, FIRST_ASKED, now)
        if asked.said < 2 * waiting and waiting < 2 * asked.said:
            return self._say(endpoint, asked, [agent for agent, left in asked.left.items() if not left])
        asked.said = waiting
        return self._say(endpoint, asked, asked.left)

    def widen(self, now: float) -> list[Want]:
        """Ask more agents for the endpoints whose requests have waited since the last few were asked."""
        wants = []
        for endpoint, asked in self._asked.items():
            if asked.widen_at <= now:
                wants += self._ask(endpoint, asked, max(len(asked.left) * WIDEN_FACTOR, FIRST_ASKED), now)
        self.due = min((asked.widen_at for asked in self._asked.values()), default=math.inf)
        return wants

    def _ask(self, endpoint: str, asked: _Asked, number: int, now: float) -> list[Want]:
        """Ask agents until this number of them has been asked, or all."""
        more: list[str] = []
        for _ in range(len(asked.order)):
            if len(asked.left) + len(more) >= number:
                break
            asked.order.rotate(-1)
            if asked.order[-1] not in asked.left:
                more.append(asked.order[-1])
        if not asked.left:
            asked.said = asked.waiting
        wants = self._say(endpoint, asked, more)
        asked.widen_at = now + WIDEN_SECONDS if len(asked.left) < len(asked.order) else math.inf
        self.due = min(self.due, asked.widen_at)
        return wants

    def _say(self, endpoint: str, asked: _Asked, agents: Iterable[str]) -> list[Want]:
        wants = [Want(agent, endpoint, asked.waiting) for agent in agents]
        asked.left.update((agent, asked.waiting) for agent, *_ in wants)
        return wants

    def _stop(self, endpoint: str, asked: _Asked) -> list[Want]:
        # Also to those that gave what was asked: a grant that crossed the last Want on its way counts for less there.
        stop = [Want(agent, endpoint, 0) for agent in asked.left]
        asked.left.clear()
        asked.widen_at = math.inf
        if not asked.workers:
            del self._asked[endpoint]
        return stop


def _lower(counts: dict[str, int], key: str, by: int) -> None:
    """Lower a count, and drop it at zero."""
    if counts[key] == by:
        del counts[key]
    else:
        counts[key] -= by
