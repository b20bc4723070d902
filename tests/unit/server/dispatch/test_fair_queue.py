"""Owners take turns in a queue."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from openlaunch.server.dispatch.fair_queue import FairQueue


def turns(*items: str) -> FairQueue[str]:
    """A queue of items such as "a0", whose owner is their first letter."""
    queue = FairQueue[str]()
    for item in items:
        queue.append(item[0], item)
    return queue


def emptied(queue: FairQueue[str]) -> list[str]:
    return [queue.popleft() for _ in range(queue.size)]


def test_one_owner_has_a_plain_queue():
    assert emptied(turns("a0", "a1", "a2")) == ["a0", "a1", "a2"]


def test_owners_take_turns():
    assert emptied(turns("a0", "a1", "a2", "b0", "c0", "c1")) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_who_comes_back_is_behind_those_who_wait():
    queue = turns("a0", "b0", "b1")
    assert queue.popleft() == "a0"
    queue.append("a", "a1")
    assert emptied(queue) == ["b0", "a1", "b1"]


def test_room_is_made_by_who_has_most_for_who_has_less():
    queue = turns("a0", "a1", "a2", "b0")
    assert queue.make_room_for("a") is None
    assert queue.make_room_for("c") == "a2"
    assert queue.make_room_for("b") is None, "it would only change places"
    assert emptied(queue) == ["a0", "b0", "a1"]


def test_nobody_makes_room_in_an_empty_queue():
    assert FairQueue[str]().make_room_for("a") is None


def test_what_is_not_wanted_is_dropped_with_its_owners_turn():
    queue = turns("a0", "b0", "b1", "c0")
    queue.keep(lambda item: item not in ("a0", "b0"))
    assert queue.size == 2
    assert emptied(queue) == ["b1", "c0"]


def test_everything_can_be_taken_out():
    queue = turns("a0", "b0", "a1")
    assert sorted(queue.clear()) == ["a0", "a1", "b0"]
    assert (queue.size, list(queue)) == (0, [])


@given(st.lists(st.sampled_from("abc"), max_size=30), st.sampled_from("abcd"))
def test_as_many_are_ahead_as_are_served_before(owners, mine):
    queue = turns(*(f"{owner}{n}" for n, owner in enumerate(owners)))
    ahead = queue.ahead_of(mine)
    queue.append(mine, "mine")
    served = emptied(queue).index("mine")
    # A turn that has begun may be somebody else's or one's own: one more or less of each.
    assert served <= ahead
    assert ahead - served <= len(set(owners))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_nobody_gets_a_second_turn_before_all_who_wait_had_one(owners):
    queue = turns(*(f"{owner}{n}" for n, owner in enumerate(owners)))
    left = Counter(owners)
    served: Counter[str] = Counter()
    while queue.size:
        owner = queue.popleft()[0]
        served[owner] += 1
        left[owner] -= 1
        assert all(served[owner] - served[other] <= 1 for other in left if left[other])
    assert served == Counter(owners)
