"""What is reserved for workers on a Ray cluster: which bundle a worker gets, and when one is given back."""

import pytest

from openlaunch.engines.documents import Resources
from openlaunch.nodes.placement import words
from openlaunch.nodes.ray_bundles import (
    ASKED_SECONDS,
    FREE_SECONDS,
    Bundles,
    Place,
    Seen,
    bundle_of,
    shape_of,
    shape_of_bundle,
)

ONE = (1.0, 64, 0)
NOWHERE = frozenset()


@pytest.fixture
def bundles():
    return Bundles("openlaunch-records-")


def placed(bundles, node, now=0.0, worker_id="", shape=ONE, **about):
    bundle = bundles.add(shape, now, worker_id=worker_id, **about)
    bundle.node = node
    return bundle


def seen(*found):
    return [Seen(each.name, each.shape, each.node) for each in found]


def unused(bundles, running, now, avoid=NOWHERE):
    return list(bundles.unused(running, avoid, now))


@pytest.mark.parametrize(
    "asked", [Resources(0.1, 2**20), Resources(2, 0, 1), Resources(0, 5), Resources(1 / 3)]
)
def test_what_ray_says_of_a_bundle_is_what_was_asked_for(asked):
    assert shape_of_bundle(bundle_of(shape_of(asked))) == shape_of(asked)


def test_a_worker_that_asks_for_nothing_has_a_bundle():
    assert bundle_of(shape_of(Resources())) == {"CPU": 0.001}


def test_a_bundle_of_a_worker_that_has_ended_is_used_for_the_next_one_of_its_shape(bundles):
    held = placed(bundles, "n1", worker_id="w1")
    running = {"w1": Place("n1", ONE)}
    assert bundles.free(ONE, {"n1"}, running) is None
    assert bundles.free(ONE, {"n1"}, {}) is held
    assert bundles.free(ONE, {"n2"}, {}) is None
    assert bundles.free((2.0, 64, 0), {"n1"}, {}) is None


def test_what_no_worker_holds_is_given_back_after_a_while(bundles):
    held = placed(bundles, "n1", worker_id="w1")
    bundles.compare(seen(held), {"w1": Place("n1", ONE)}, began=1, now=100)
    assert unused(bundles, {"w1": Place("n1", ONE)}, 100 + 2 * FREE_SECONDS) == []
    assert unused(bundles, {}, 100 + FREE_SECONDS) == []
    assert unused(bundles, {}, 101 + FREE_SECONDS) == [held]
    bundles.remove(held)
    bundles.compare(seen(held), {}, began=200, now=200)
    assert list(bundles) == []


def test_a_worker_that_is_adopted_gets_the_bundle_that_an_earlier_server_has_left(bundles):
    left = [Seen("openlaunch-records-1", ONE, "n1"), Seen("openlaunch-records-2", ONE, "n2")]
    running = {"w1": Place("n2", ONE)}
    bundles.compare(left, running, began=0, now=0)
    assert bundles.lacking(running) == []
    assert [each.name for each in unused(bundles, running, 1 + FREE_SECONDS)] == ["openlaunch-records-1"]


def test_a_worker_whose_bundle_is_gone_or_elsewhere_lacks_one(bundles):
    moved, running = placed(bundles, "n1", worker_id="w1"), {"w1": Place("n1", ONE), "w2": Place("n1", ONE)}
    assert bundles.lacking(running) == ["w2"]
    moved.node = "n2"  # where Ray has brought it, once it took the node for dead
    assert bundles.lacking(running) == ["w1", "w2"]
    bundles.compare([], running, began=1, now=1)
    assert list(bundles) == []


def test_a_bundle_that_is_newer_than_what_was_seen_is_kept(bundles):
    asked = bundles.add(ONE, 5.0, endpoint_id="e")
    bundles.compare([], {}, began=4, now=6)
    assert list(bundles) == [asked]


def test_an_endpoint_that_asks_again_waits_for_what_it_has_asked_for(bundles):
    first = bundles.add(ONE, 0.0, endpoint_id="e")
    assert bundles.waited_for("e", ONE, ahead=0) is first
    assert bundles.waited_for("e", ONE, ahead=1) is None  # it wants two
    second = bundles.add(ONE, 0.0, endpoint_id="e")
    assert [bundles.waited_for("e", ONE, ahead=each) for each in (0, 1, 2)] == [first, second, None]
    assert bundles.waited_for("other", ONE, ahead=0) is None
    assert bundles.is_scarce(ONE)


def test_what_nobody_waits_for_any_more_is_given_back(bundles):
    waits = bundles.add(ONE, 0.0, endpoint_id="e")
    assert unused(bundles, {}, ASKED_SECONDS) == []
    assert unused(bundles, {}, ASKED_SECONDS + 1) == [waits]


def test_it_is_asked_for_anew_where_other_nodes_are_to_be_avoided(bundles):
    waits = bundles.add(ONE, 0.0, endpoint_id="e")
    assert unused(bundles, {}, 1.0, avoid=frozenset({"n1"})) == [waits]


def test_a_bundle_for_a_worker_that_runs_already_is_given_back_with_it(bundles):
    pinned = bundles.add(ONE, 0.0, worker_id="w1", pinned=True)
    assert unused(bundles, {"w1": Place("n1", ONE)}, 100.0) == []
    assert unused(bundles, {}, 1.0) == [pinned]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Resources(1), "1 CPU"),
        (Resources(0.5, 64 * 2**20), "0.5 CPUs and 64 MiB of memory"),
        (Resources(2, 2**30, 1), "1 GPU, 2 CPUs and 1024 MiB of memory"),
        (Resources(), "a place"),
    ],
)
def test_what_is_asked_for_in_words(asked, said):
    assert words(asked) == said
