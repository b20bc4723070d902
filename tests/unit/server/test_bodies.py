"""The memory of requests: an owner may hold as much of it as is free."""

import pytest

from openlaunch.errors import Unavailable
from openlaunch.server.bodies import FREE_BYTES, BodyBudget, Held, UnreadBytes

KIB = 1024


def fill(budget, owner, sizes):
    """Hold as much as one owner may, in holders of this size; give what is held."""
    held = []
    while True:
        each = Held(budget, owner)
        try:
            each.resize(sizes)
        except Unavailable:
            return held
        held.append(each)


def test_one_who_holds_all_that_they_may_leaves_half_for_others():
    budget = BodyBudget(1000 * KIB)
    fill(budget, "ada", 10 * KIB)
    assert budget.held == 500 * KIB
    assert len(fill(budget, "bob", 10 * KIB)) == 25
    Held(budget, "carol").resize(100 * KIB)


def test_what_is_given_back_may_be_held_again():
    budget = BodyBudget(100 * KIB)
    for each in fill(budget, "ada", 10 * KIB):
        each.resize(0)
    assert budget.held == 0
    assert len(fill(budget, "ada", 10 * KIB)) == 5


def test_what_is_refused_is_counted_as_before():
    budget = BodyBudget(100 * KIB)
    Held(BodyBudget(0), "ada").resize(FREE_BYTES)
    held = Held(budget, "ada")
    held.resize(40 * KIB)
    with pytest.raises(Unavailable, match="nobody may have more than is free"):
        held.resize(60 * KIB)
    assert budget.held == 40 * KIB
    held.resize(0)
    assert budget.held == 0


def test_bytes_of_a_connection_are_counted_for_the_one_who_sent_them():
    budget = BodyBudget(100 * KIB)
    ada, bob = UnreadBytes(budget), UnreadBytes(budget)
    ada.add(b"x" * 40 * KIB, "ada")
    with pytest.raises(Unavailable):
        UnreadBytes(budget).add(b"x" * 40 * KIB, "ada")
    bob.add(b"x" * 10 * KIB, "bob")
    assert (len(ada.take()), len(bob.take()), budget.held) == (40 * KIB, 10 * KIB, 0)
