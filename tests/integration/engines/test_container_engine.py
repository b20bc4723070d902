"""The container engine as the server calls it, with real containers where they can be started."""

import os

import pytest
import uvloop
from container_driver import IMAGE, PYTHON, container_engine

from openlaunch.engines.base import NoRoom
from openlaunch.engines.containers import ContainerEngine, ContainerError
from openlaunch.engines.documents import JobSpec, Resources
from openlaunch.engines.gpus import GpuPool
from openlaunch.engines.jobs import ContainerJobs
from openlaunch_worker.containers import Container

HERE = ":".join(IMAGE)


@pytest.fixture(scope="module")
def real():
    with container_engine() as engine:
        yield engine


@pytest.fixture
def engine(real, tmp_path):
    settings = real.settings()
    return ContainerEngine(
        settings["container_engine"], settings["container_run_options"], server="test", folder=tmp_path
    )


async def run(engine, code, **options):
    container = Container("one", HERE, (PYTHON, "-c", code), labels=engine.labels("job"), **options)
    try:
        await engine.start(container)
        await engine.wait("one")
        return await engine.state("one"), await engine.logs("one", 10)
    finally:
        await engine.remove("one")


def test_a_container_runs_to_its_end_with_its_environment(engine):
    code = "import os; print(repr(os.environ['GIVEN'])); raise SystemExit(3)"
    state, logs = uvloop.run(run(engine, code, env={"GIVEN": "one\ntwo 'x'"}))
    assert (state.running, state.exit_code) == (False, 3)
    assert logs == [repr("one\ntwo 'x'")]


def test_variables_that_are_the_engines_too_reach_the_container_alone(engine):
    state, logs = uvloop.run(run(engine, "import os; print(os.environ['HOME'])", env={"HOME": "/tmp/inside"}))
    assert logs == ["/tmp/inside"]
    assert state.exit_code == 0


def test_memory_has_a_limit(engine, real):
    real.needs_real()
    state, _ = uvloop.run(run(engine, "x = b'x' * 500_000_000", memory=64 * 1024 * 1024))
    assert state.exit_code in (1, 137)


def test_a_container_that_can_not_be_started_leaves_nothing(engine, real):
    real.needs_real()
    with pytest.raises(ContainerError, match=r"could not be started: .*no-such-program"):
        uvloop.run(engine.start(Container("two", HERE, ("/no-such-program",))))
    assert real.names() == []


def test_what_is_not_there_is_no_error(engine):
    async def calls():
        await engine.stop("none", 1)
        await engine.remove("none")
        await engine.wait("none")
        return await engine.state("none"), await engine.logs("none", 10)

    assert uvloop.run(calls()) == (None, [])


def test_containers_are_listed_by_server_and_kind(engine, real, tmp_path):
    other = ContainerEngine(
        real.settings()["container_engine"],
        real.settings()["container_run_options"],
        server="other",
        folder=tmp_path,
    )

    async def calls():
        command = (PYTHON, "-c", "import time; time.sleep(60)")
        await engine.start(Container("three", HERE, command, labels=engine.labels("job")))
        try:
            state = await engine.state("three")
            return (
                state.running,
                await engine.names("job"),
                await engine.names("worker"),
                await other.names("job"),
            )
        finally:
            await engine.remove("three")

    assert uvloop.run(calls()) == (True, ["three"], [], [])


def test_an_image_that_can_not_be_fetched_says_why(engine):
    said = []
    with pytest.raises(ContainerError, match=r"the image '127\.0\.0\.1:9/none:1' can't be fetched: "):
        uvloop.run(engine.ensure_image("127.0.0.1:9/none:1", said.append))
    assert said[0] == "fetching the image 127.0.0.1:9/none:1"


def test_an_image_that_is_there_is_not_fetched(engine):
    said = []
    uvloop.run(engine.ensure_image(HERE, said.append))
    assert said == []


def test_without_an_engine_it_is_said_what_to_install(tmp_path):
    engine = ContainerEngine(server="test", folder=tmp_path, environ={"PATH": str(tmp_path)})
    with pytest.raises(ContainerError, match="apt install podman"):
        uvloop.run(engine.ensure_image(HERE))


def test_an_engine_that_is_not_there_is_named(tmp_path):
    engine = ContainerEngine(
        "no-such-engine --flag", server="test", folder=tmp_path, environ=dict(os.environ)
    )
    with pytest.raises(ContainerError, match="'no-such-engine' was not found"):
        uvloop.run(engine.ensure_image(HERE))


def test_the_files_of_a_job_are_there_until_it_is_released(engine, tmp_path):
    folder = tmp_path / "jobs"
    jobs = ContainerJobs(engine, GpuPool(()), folder)
    files = {"/tmp/a.txt": "first", "/tmp/b.txt": "second"}
    job = JobSpec("j1", HERE, (PYTHON, "-c", "print(1)"), files=files, resources=Resources(1, 1 << 28))

    async def calls():
        try:
            await jobs.start(job, await jobs.hold("j1", job.resources))
            await jobs.wait("j1")
            written = [path.read_text() for path in sorted(folder.glob("j1/*"))]
            return await jobs.ids(), await jobs.logs("j1", 10), written
        finally:
            await jobs.remove("j1")
            await jobs.release("j1")

    assert uvloop.run(calls()) == (["j1"], ["1"], ["first", "second"])
    assert list(folder.iterdir()) == []


def test_a_job_holds_its_gpus_over_a_restart_until_it_is_released(engine, tmp_path):
    gpus = GpuPool((0, 1, 2))
    jobs = ContainerJobs(engine, gpus, tmp_path / "jobs")
    two = Resources(gpus=2)
    for _ in range(2):  # a node is told again
        jobs.resume("from before", "0,2", two)
    jobs.resume("without any", "", Resources())
    assert gpus.free == 1

    with pytest.raises(NoRoom, match="2 GPUs are needed and 1 are free"):
        uvloop.run(jobs.hold("another", two))
    uvloop.run(jobs.release("from before"))
    assert gpus.free == 3
    assert uvloop.run(jobs.hold("another", two)) == uvloop.run(jobs.hold("another", two)) == "0,1"
    assert gpus.free == 1
