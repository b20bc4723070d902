"""What an engine of nodes passes on of builds: one node speaks for each, and none once nobody waits for it."""

import asyncio

import pytest

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import BuildOrder, Resources
from openlaunch.errors import ConfigurationError
from openlaunch.nodes import builds, calls
from openlaunch.nodes.engine import NodesEngine
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.node import Node, read_nodes
from openlaunch.wire.bundles import CloudpickleArtifactFlavor

TOKEN = "7" * 64


class Link:
    """A connection whose builds end when the test says so."""

    def __init__(self):
        self.built = asyncio.get_running_loop().create_future()

    async def call(self, call, argument):
        assert call is calls.PREPARE
        return await self.built


class Heard:
    """What the engine passes on."""

    def __init__(self):
        self.all = []

    def build_started(self, build_id):
        self.all.append("started")

    def build_said(self, build_id, line):
        self.all.append(line)

    def build_does(self, build_id, step):
        self.all.append(step)


def news(kind, line=""):
    return calls.BUILD.dump(calls.BuildNews("end.1", kind, line))


def order():
    flavor = CloudpickleArtifactFlavor.model_validate(
        {
            "flavor": "cloudpickle_artifact",
            "location": "s3://b/k",
            "requirements": [],
            "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2"},
            "load_predict_fn": "code.load_predict",
            "load_model_fn": "code.load_model",
        }
    )
    return BuildOrder("end.1", flavor, Resources(), "ann")


def test_a_node_that_begins_after_another_has_built_says_nothing_of_it():
    async def main():
        first, second = Node("127.0.0.1", 1), Node("127.0.0.1", 2)
        first.link, second.link = Link(), Link()
        engine, heard = NodesEngine([first, second], ClusterIdentity(TOKEN), "records"), Heard()
        engine.listen(heard)
        preparing = asyncio.create_task(engine.builds.prepare(order()))
        await asyncio.sleep(0)
        engine.heard(first, calls.BUILD.name, news("started"))
        engine.heard(second, calls.BUILD.name, news("started"))
        engine.heard(first, calls.BUILD.name, news("said", "of the first"))
        engine.heard(second, calls.BUILD.name, news("said", "of the second"))
        first.link.built.set_result("env")
        assert await preparing == "env"
        engine.heard(second, calls.BUILD.name, news("started"))
        engine.heard(second, calls.BUILD.name, news("does", "numpy"))
        second.link.built.set_result("env")
        return heard.all

    assert asyncio.run(main()) == ["started", "of the first"]


def test_a_node_that_could_not_build_is_known_until_it_can():
    async def main():
        first, second = Node("127.0.0.1", 1), Node("127.0.0.1", 2)
        first.link, second.link = Link(), Link()
        engine = NodesEngine([first, second], ClusterIdentity(TOKEN), "records")
        engine.listen(Heard())
        preparing = asyncio.create_task(engine.builds.prepare(order()))
        await asyncio.sleep(0)
        first.link.built.set_result("env")
        second.link.built.set_exception(EngineError("no space left"))
        assert await preparing == "env"
        while not second.unbuilt:
            await asyncio.sleep(0)
        assert (first.unbuilt, second.unbuilt) == (set(), {"env"})
        with pytest.raises(EngineError, match="no space left"):
            await engine.builds.ensure(second, "env")
        second.link = Link()
        second.link.built.set_result("env")
        assert await engine.builds.ensure(second, "env") == "env"
        assert second.unbuilt == set()

    asyncio.run(main())


def test_a_build_waits_for_a_node_that_is_away_just_now():
    async def main():
        node = Node("127.0.0.1", 1)
        engine, heard = NodesEngine([node], ClusterIdentity(TOKEN), "records"), Heard()
        engine.listen(heard)
        preparing = asyncio.create_task(engine.builds.prepare(order()))
        while not heard.all:
            await asyncio.sleep(0)
        link = Link()
        link.built.set_result("env")
        node.link = link
        assert await preparing == "env"
        return heard.all

    assert asyncio.run(main()) == ["started", "waiting for a node"]


def test_without_a_node_a_build_fails_with_what_each_lacks(monkeypatch):
    monkeypatch.setattr(builds, "NODE_SECONDS", 0.0)

    async def main():
        engine = NodesEngine(read_nodes("one:8001,two:8001"), ClusterIdentity(TOKEN), "records")
        engine.listen(Heard())
        await engine.builds.prepare(order())

    with pytest.raises(EngineError, match=r"no node is connected: one:8001 .*; two:8001 "):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give them with --agents"),
        ("one", "'one', which is not HOST:PORT"),
        ("one:0", "'one:0', which is not HOST:PORT"),
        ("one:8001,one:8001", "'one:8001' twice"),
    ],
)
def test_what_names_no_agents_is_refused(text, said):
    with pytest.raises(ConfigurationError, match=said):
        read_nodes(text)
