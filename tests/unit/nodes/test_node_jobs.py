"""Image jobs as the server that leads sees them: which node each is on, and what a node that is away means."""

import asyncio

import pytest

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import ContainerError, EngineError, NoRoom
from openlaunch.engines.documents import Capacity, ContainerState, Resources
from openlaunch.nodes import calls, jobs
from openlaunch.nodes.jobs import NodeJobs
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import FewestWorkers

ONE = Resources(1, 2**20)
STATE = ContainerState(True, True, 0, False)


class Link:
    """A connection to an agent, which holds and runs what it is asked to, unless it `fails`."""

    def __init__(self):
        self.asked = []
        self.fails: EngineError | None = None

    async def call(self, call, argument):
        self.asked.append((call.name, argument))
        if self.fails is not None:
            raise self.fails
        return {"hold_job": "0,1", "job_state": STATE}.get(call.name)


class Nodes(list[Node]):
    """The nodes of a server that leads."""

    epoch = 1


def site(count=1):
    nodes = Nodes(Node(f"node{number}", 1) for number in range(count))
    for node in nodes:
        node.has, node.link = Capacity(2, 2**30, 2, 2), Link()
    placement = FewestWorkers()
    asyncio.get_running_loop().create_task(placement.begin(nodes))
    return nodes, NodeJobs(nodes, placement, BackgroundTasks("failed"))


def test_what_a_job_is_given_names_its_node_and_the_next_server_finds_it_there():
    async def main():
        nodes, first = site(2)
        await asyncio.sleep(0)
        assert [await first.hold(f"imj_{n}", ONE) for n in range(2)] == ["node0:1 0,1", "node1:1 0,1"]
        assert [len(node.jobs) for node in nodes] == [1, 1]
        first.leave()
        assert [node.jobs for node in nodes] == [{}, {}]
        assert await first.state("imj_1") is None
        first.resume("imj_1", "node1:1 0,1", ONE)
        assert await first.state("imj_1") == STATE
        first.lead(nodes[1])
        await asyncio.sleep(0.01)
        assert nodes[1].link.asked[-1] == ("keep_jobs", [calls.HeldJob("imj_1", ONE, "0,1")])
        assert nodes[1].jobs == {"imj_1": ONE}
        await first.release("imj_1")
        assert (nodes[1].jobs, nodes[1].link.asked[-1]) == ({}, ("release_job", "imj_1"))

    asyncio.run(main())


def test_a_job_waits_for_a_node_with_room_and_holds_nothing_where_a_node_has_none():
    async def main():
        nodes, only = site()
        await asyncio.sleep(0)
        await only.hold("imj_1", Resources(2, 2**20))
        with pytest.raises(NoRoom, match="the job waits for 1 CPU"):
            await only.hold("imj_2", ONE)
        await only.release("imj_1")
        nodes[0].link.fails = EngineError("is lost")
        with pytest.raises(NoRoom, match="is lost"):
            await only.hold("imj_2", ONE)
        assert nodes[0].jobs == {}
        nodes[0].link = None
        with pytest.raises(NoRoom):
            await only.hold("imj_2", ONE)

    asyncio.run(main())


def test_a_job_whose_node_is_away_for_long_fails_with_its_name(monkeypatch):
    monkeypatch.setattr(jobs, "AWAY_SECONDS", 0.05)
    monkeypatch.setattr(jobs, "LOOK_SECONDS", 0.001)

    async def main():
        nodes, only = site()
        only.resume("imj_1", "node0:1", ONE)
        link, nodes[0].link, nodes[0].problem = nodes[0].link, None, "was not heard of for 2 s"
        asyncio.get_running_loop().call_later(0.01, setattr, nodes[0], "link", link)
        assert await only.state("imj_1") == STATE
        nodes[0].link = None
        with pytest.raises(ContainerError, match=r"node node0:1 was away for .*: .*was not heard of for 2 s"):
            await only.state("imj_1")
        only.resume("imj_2", "node9:1", ONE)
        with pytest.raises(ContainerError, match=r"node node9:1 .*not one of this server's nodes"):
            await only.state("imj_2")

    asyncio.run(main())
