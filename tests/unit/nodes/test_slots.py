import pytest

from openlaunch.nodes.slots import (
    FIRST_ASKED,
    WIDEN_FACTOR,
    WIDEN_SECONDS,
    AgentSlots,
    GatewaySlots,
    Grant,
    Recall,
    Return,
    Take,
    Want,
)


def agent(*gateways, **workers):
    """An agent with these gateways, and workers of the endpoint `e` by their number of slots."""
    slots = AgentSlots()
    for gateway in gateways:
        assert slots.gateway_joined(gateway) == []
    for name, number in workers.items():
        slots.worker_ready(name, "e", number)
    return slots


def test_the_slots_of_a_new_worker_are_spread_over_the_gateways():
    slots = agent("g", "h")
    assert sorted(slots.worker_ready("w", "e", 5)) == [Grant("g", "w", 3), Grant("h", "w", 2)]
    assert sorted(slots.worker_ready("x", "e", 1)) == [Grant("h", "x", 1)]


def test_the_first_gateway_gets_what_is_free():
    slots = agent(w=2)
    assert slots.gateway_joined("g") == [Grant("g", "w", 2)]


def test_a_request_without_a_token_is_refused():
    slots = agent("g", "h", w=1)
    assert slots.started("g", "w", 1)
    assert not slots.started("g", "w", 2)
    assert not slots.started("h", "w", 3)
    assert not slots.started("g", "none", 4)


def test_a_gateway_keeps_its_token_from_request_to_request_without_a_message():
    slots = agent("g", "h", w=1)
    for request in range(3):
        assert slots.started("g", "w", request)
        assert slots.ended("w", request) == []


def test_a_token_in_use_goes_to_who_waits_when_its_request_ends():
    slots = agent("g", "h", w=1)
    slots.started("g", "w", 1)
    assert slots.wanted("h", "e", 1) == []
    assert slots.ended("w", 1) == [Take("g", "w"), Grant("h", "w", 1)]
    assert not slots.started("g", "w", 2)
    assert slots.started("h", "w", 3)
    assert slots.ended("w", 3) == []


def test_an_unused_token_is_recalled_and_given_once_it_is_returned():
    slots = agent("g", "h", w=1)
    assert slots.wanted("h", "e", 2) == [Recall("g", "w", 1)]
    assert slots.wanted("h", "e", 3) == []
    assert slots.returned("g", "w", 1) == [Grant("h", "w", 1)]


def test_a_recall_that_met_a_request_moves_the_token_at_its_end():
    slots = agent("g", "h", w=1)
    assert slots.wanted("h", "e", 1) == [Recall("g", "w", 1)]
    assert slots.started("g", "w", 1)  # was on its way
    assert slots.returned("g", "w", 0) == []
    assert slots.ended("w", 1) == [Take("g", "w"), Grant("h", "w", 1)]


def test_a_recall_that_is_answered_after_its_token_was_taken_changes_nothing():
    slots = agent("g", "h", w=1)
    slots.wanted("h", "e", 1)
    slots.started("g", "w", 1)
    assert slots.ended("w", 1) == [Take("g", "w"), Grant("h", "w", 1)]
    assert slots.returned("g", "w", 0) == []
    assert slots.started("h", "w", 2)


def test_tokens_that_were_not_recalled_are_not_taken_back():
    slots = agent("g", "h", w=2)
    with pytest.raises(ValueError, match="1 tokens of worker w"):
        slots.returned("g", "w", 1)
    slots.wanted("h", "e", 1)
    with pytest.raises(ValueError, match="2 tokens"):
        slots.returned("g", "w", 2)


def test_who_waits_has_turns_by_how_many_wait():
    slots = agent("g", "h", "i", w=1)
    slots.started("g", "w", 0)
    slots.wanted("h", "e", 30)
    slots.wanted("i", "e", 10)
    holder, turns = "g", []
    for request in range(1, 21):
        messages = slots.ended("w", request - 1)
        holder = messages[-1].gateway if messages else holder
        turns.append(holder)
        assert slots.started(holder, "w", request)
    assert 13 <= turns.count("h") <= 17
    assert turns.count("h") + turns.count("i") == 20


def test_a_gateway_that_waits_itself_has_its_turn_too():
    slots = agent("g", "h", w=1)
    slots.started("g", "w", 0)
    slots.wanted("g", "e", 10)
    slots.wanted("h", "e", 10)
    holders = ["g"]
    for request in range(6):
        messages = slots.ended("w", request)
        holders.append(messages[-1].gateway if messages else holders[-1])
        assert slots.started(holders[-1], "w", request + 1)
    assert {holders[1:].count("g"), holders[1:].count("h")} == {3}


def test_a_gateway_for_which_nobody_waits_any_longer_gets_nothing():
    slots = agent("g", "h", w=1)
    slots.started("g", "w", 1)
    slots.wanted("h", "e", 1)
    assert slots.wanted("h", "e", 0) == []
    assert slots.ended("w", 1) == []


def test_the_tokens_of_a_gateway_that_is_gone_are_free_and_its_requests_are_named():
    slots = agent("g", w=3)
    slots.gateway_joined("h")
    slots.started("g", "w", 7)
    assert slots.gateway_gone("g") == ([Grant("h", "w", 2)], [("w", 7)])
    assert slots.ended("w", 7) == [Grant("h", "w", 1)]


def test_a_recall_of_a_gateway_that_is_gone_is_settled_by_its_end():
    slots = agent("g", "h", w=1)
    slots.wanted("h", "e", 1)
    assert slots.gateway_gone("g") == ([Grant("h", "w", 1)], [])


def test_the_tokens_of_a_worker_that_is_gone_are_void():
    slots = agent("g", "h", w=2)
    slots.started("g", "w", 1)
    slots.wanted("g", "e", 4)
    assert slots.worker_gone("w") == {1: "g"}
    assert not slots.started("h", "w", 2)
    assert slots.returned("h", "w", 1) == []
    assert slots.wanted("g", "e", 4) == []
    slots.worker_ready("x", "e", 1)  # who waited has asked before this worker was there, and asks again
    assert slots.wanted("g", "e", 1) in ([], [Recall("h", "x", 1)])


def test_a_draining_worker_takes_its_tokens_back_and_is_drained_when_nobody_can_send_to_it():
    slots = agent("g", "h", w=3)
    assert slots.started("g", "w", 1)
    assert slots.started("g", "w", 2)
    assert slots.drain("w") == [Recall("h", "w", 1)]
    assert slots.wanted("h", "e", 5) == []
    assert slots.returned("h", "w", 1) == []
    assert slots.ended("w", 1) == [Take("g", "w")]
    assert not slots.is_drained("w")
    assert slots.ended("w", 2) == [Take("g", "w")]
    assert slots.is_drained("w")


def gateway(agents, workers_each=1):
    slots = GatewaySlots()
    for number in range(agents):
        for worker in range(workers_each):
            assert slots.worker_ready(f"a{number}", f"w{number}.{worker}", "e") == []
    return slots


def asked(wants):
    return [want.agent for want in wants]


def test_a_gateway_asks_a_few_agents_first_and_then_more():
    slots = gateway(100)
    first = slots.waiting("e", 1, now=5.0)
    assert len(first) == FIRST_ASKED
    assert slots.due == 5.0 + WIDEN_SECONDS
    second = slots.widen(now=slots.due)
    assert len({*asked(first), *asked(second)}) == FIRST_ASKED * WIDEN_FACTOR
    third = slots.widen(now=slots.due)
    assert len({*asked(first), *asked(second), *asked(third)}) == 100
    assert slots.due == float("inf")


def test_the_agents_that_are_asked_first_change():
    slots = gateway(4)
    first = asked(slots.waiting("e", 1, now=1.0))
    slots.waiting("e", 0, now=1.0)
    assert not {*first} & {*asked(slots.waiting("e", 1, now=1.0))}


def test_all_agents_that_were_asked_hear_when_nothing_waits_any_longer():
    slots = gateway(2)
    assert slots.waiting("e", 1, now=1.0) == [Want("a1", "e", 1), Want("a0", "e", 1)]
    slots.granted("w1.0", 1)  # perhaps for an earlier Want, so that the last one still stands
    assert slots.held["w1.0"] == 1
    assert slots.waiting("e", 0, now=1.0) == [Want("a1", "e", 0), Want("a0", "e", 0)]
    assert slots.due == float("inf")


def test_agents_hear_of_what_changes_much_and_of_what_they_have_given():
    slots = gateway(1)
    said = [slots.waiting("e", waiting, now=1.0) for waiting in range(1, 9)]
    assert [want.waiting for wants in said for want in wants] == [1, 2, 4, 8]
    slots.granted("w0.0", 8)
    assert slots.waiting("e", 6, now=1.0) == [Want("a0", "e", 6)]


def test_an_agent_that_starts_a_worker_while_requests_wait_is_asked():
    slots = gateway(1)
    slots.waiting("e", 3, now=1.0)
    assert slots.worker_ready("b", "x", "e") == [Want("b", "e", 3)]
    assert slots.worker_ready("b", "y", "e") == []


def test_requests_that_wait_before_there_is_a_worker_are_announced_to_its_agent():
    slots = gateway(1)
    slots.waiting("e", 3, now=1.0)
    assert slots.worker_gone("w0.0") == [Want("a0", "e", 0)]
    assert slots.waiting("e", 4, now=1.0) == []
    assert slots.worker_ready("b", "x", "e") == [Want("b", "e", 4)]
    assert slots.worker_gone("x") == [Want("b", "e", 0)]
    assert slots.waiting("e", 0, now=1.0) == []


def test_requests_that_wait_before_any_worker_was_known_are_announced():
    slots = GatewaySlots()
    assert slots.waiting("e", 2, now=1.0) == []
    assert slots.worker_ready("b", "x", "e") == [Want("b", "e", 2)]


def test_unused_tokens_alone_are_returned():
    slots = gateway(1)
    slots.granted("w0.0", 3)
    assert slots.recalled("w0.0", 3, running=2) == [Return("a0", "w0.0", 1)]
    assert slots.held["w0.0"] == 2
    assert slots.recalled("w0.0", 3, running=2) == [Return("a0", "w0.0", 0)]
    slots.taken("w0.0")
    assert slots.held["w0.0"] == 1


def test_an_agent_gives_and_takes_no_tokens_that_there_can_not_be():
    slots = gateway(1)
    with pytest.raises(ValueError, match="none is held"):
        slots.taken("w0.0")
    slots.granted("w0.0", 1)
    with pytest.raises(ValueError, match="none has over 10000"):
        slots.granted("w0.0", 10_000)
    slots.taken("w0.0")
    assert slots.recalled("w0.0", 1, running=1) == [Return("a0", "w0.0", 0)]


def test_what_concerns_a_worker_that_is_gone_is_nothing():
    slots = gateway(1)
    slots.worker_gone("w0.0")
    slots.granted("w0.0", 1)
    slots.taken("w0.0")
    assert slots.recalled("w0.0", 1, running=0) == []
    assert slots.held == {}
