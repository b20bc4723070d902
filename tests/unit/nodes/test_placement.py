"""Which node a worker is started on, where no cluster decides that."""

import asyncio
from collections.abc import Iterable

import pytest

from openlaunch.engines.base import NoRoom
from openlaunch.engines.documents import Capacity, Resources
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import FewestWorkers

ONE = Resources(1, 2**20)


class Spec:
    """What placement reads of a worker."""

    endpoint_id, environment, resources = "end_a", "env", ONE


def nodes(*workers: Iterable[str]) -> list[Node]:
    made = []
    for number, ids in enumerate(workers):
        node = Node(f"node{number}", 1)
        node.has, node.link = Capacity(4, 2**30, 0, 0), object()  # it is connected
        node.workers = dict.fromkeys(ids, ONE)
        node.environments = {"env": "env"}
        made.append(node)
    return made


def chosen(given: list[Node]) -> str:
    async def place() -> Node:
        placement = FewestWorkers()
        await placement.begin(given)
        return await placement.place(Spec())

    return asyncio.run(place()).host


def test_the_workers_of_an_endpoint_are_on_all_nodes_also_before_all_have_its_environment():
    given = nodes(["end_a.1"], [])
    given[1].environments.clear()
    assert chosen(given) == "node1"


def test_what_others_have_there_counts_after_that():
    assert chosen(nodes(["end_a.1"], ["end_b.1", "end_ab.1"])) == "node1"
    assert chosen(nodes(["end_b.1"], [])) == "node1"


def test_the_first_worker_is_where_the_environment_is():
    given = nodes([], ["end_b.1"])
    given[0].environments.clear()
    assert chosen(given) == "node1"


def test_a_node_that_could_not_build_the_environment_comes_last_and_is_used_where_no_other_has_room():
    given = nodes(["end_a.1"], [])
    given[1].environments.clear()
    given[1].unbuilt.add("env")
    assert chosen(given) == "node0"
    given[0].has = Capacity(1, 2**30, 0, 0)
    assert chosen(given) == "node1"
    given[1].has = Capacity(0, 0, 0, 0)
    with pytest.raises(NoRoom, match="a worker waits for 1 CPU"):
        chosen(given)
