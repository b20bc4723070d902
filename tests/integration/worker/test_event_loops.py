"""Which event loop async functions run in."""

import sys
from pathlib import Path

import pytest
import uvloop
from server_driver import SMALL, running
from worker_driver import Worker, returning

from openlaunch import EndpointRequest

SITE = str(Path(uvloop.__file__).parent.parent)


pytestmark = pytest.mark.usefixtures("by_value")


async def loop_and_path():
    import asyncio

    return [type(asyncio.get_running_loop()).__module__.partition(".")[0], sys.path]


def loop_of(env):
    with Worker(returning(loop_and_path), env=env) as worker:
        worker.ready()
        return worker.value()[0]


@pytest.mark.parametrize(
    ("settings", "loop"), [({}, "uvloop"), ({"worker_event_loop": "asyncio"}, "asyncio")]
)
def test_workers_use_the_servers_uvloop_and_see_nothing_else_of_its_packages(settings, loop):
    with running(**settings) as client:
        endpoint = client.deploy(loop_and_path, name="loop", **SMALL)
        used, path = endpoint.predict(EndpointRequest(args={})).value
    assert used == loop
    assert SITE not in path


def test_packages_that_change_the_loop_from_within_have_one_that_can_be_changed(tmp_path):
    (tmp_path / "nest_asyncio.py").touch()
    env = {"OPENLAUNCH_WORKER_UVLOOP": SITE}
    assert loop_of(env) == "uvloop"
    assert loop_of({**env, "PYTHONPATH": str(tmp_path)}) == "asyncio"


def test_a_uvloop_that_was_built_for_another_python_is_passed_over(tmp_path):
    (tmp_path / "uvloop").mkdir()
    (tmp_path / "uvloop" / "__init__.py").write_text("from .loop import Loop")
    assert loop_of({"OPENLAUNCH_WORKER_UVLOOP": SITE, "PYTHONPATH": str(tmp_path)}) == "asyncio"


def test_what_a_worker_is_told_of_the_loop_is_not_in_its_environment():
    def told():
        import os

        return [name for name in os.environ if "UVLOOP" in name]

    with Worker(returning(told), env={"OPENLAUNCH_WORKER_UVLOOP": SITE}) as worker:
        worker.ready()
        assert worker.value() == []
