"""The simulation finds each fault that it is for: with a rule taken away, a seed fails."""

import pytest
from simulate import first_broken

from openlaunch.nodes import leases, slots

pytestmark = pytest.mark.slow


def returned_without_confirmation(self, endpoint, turns, recall=slots.AgentSlots._recall):
    for message in list(recall(self, endpoint, turns)):
        yield message
        yield from self.returned(message.gateway, message.worker, message.tokens)


def ended_without_take(self, worker, request, ended=slots.AgentSlots.ended):
    return [message for message in ended(self, worker, request) if not isinstance(message, slots.Take)]


def free_at_once(self, gateway, gone=slots.AgentSlots.gateway_gone):
    messages, cancel = gone(self, gateway)
    for worker, _ in cancel:
        self._workers[worker].free += 1
    return [*messages, *(more for endpoint in self._of_endpoint for more in self._give(endpoint))], cancel


def renewed_from_its_answer(self, sent, epoch, renewed=leases.Lease.renewed):
    renewed(self, sent + leases.MARGIN_SECONDS * 1.5, epoch)


def never_told_to_stop(self, endpoint, asked, stop=slots.GatewaySlots._stop):
    stop(self, endpoint, asked)
    return []


MUTATIONS = {
    "a recalled token is given before it is returned": (
        slots.AgentSlots,
        "_recall",
        returned_without_confirmation,
    ),
    "a token is given to another without taking it": (slots.AgentSlots, "ended", ended_without_take),
    "a slot is free while a cancelled request runs": (slots.AgentSlots, "gateway_gone", free_at_once),
    "agents are not informed that nothing waits": (slots.GatewaySlots, "_stop", never_told_to_stop),
    "more agents are never asked": (slots.GatewaySlots, "widen", lambda self, now: []),
    "unused tokens are not recalled": (slots.AgentSlots, "_recall", lambda self, endpoint, turns: iter(())),
    "a draining worker keeps its tokens": (
        slots.AgentSlots,
        "is_drained",
        lambda self, worker: self._workers[worker].draining,
    ),
    "a holder acts until the very end": (leases, "MARGIN_SECONDS", -0.01),
    "a holder counts from the answer": (leases.Lease, "renewed", renewed_from_its_answer),
    "a lease is taken before it has run out": (
        leases,
        "has_run_out",
        lambda row, now: row.until <= now + 1.0,
    ),
    "a holder never stops": (leases.Lease, "holds", lambda self, now: self.epoch > 0),
    "leases last longer than faults may": (leases, "SECONDS", 6.0),
}
"""Each takes a rule away: what is replaced, where, and by what."""


@pytest.mark.parametrize("rule", MUTATIONS)
def test_a_rule_that_is_broken_is_found(rule, monkeypatch):
    where, name, changed = MUTATIONS[rule]
    monkeypatch.setattr(where, name, changed)
    assert first_broken(range(3_000)) is not None
