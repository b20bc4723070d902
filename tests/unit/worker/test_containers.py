"""The command line that runs a container."""

from itertools import pairwise

import pytest

from openlaunch_worker.containers import Container, EngineCommand, environ_for


def run(program="podman", **options):
    return EngineCommand((program,), ("--ulimit", "nofile=9")).run(Container("name", "image:1", **options))


def after(arguments, option):
    return [value for name, value in pairwise(arguments) if name == option]


def test_the_command_replaces_the_entry_point():
    arguments = run(command=("serve", "--port", "1"))
    assert after(arguments, "--entrypoint") == ["serve"]
    assert arguments[-3:] == ["image:1", "--port", "1"]


def test_without_a_command_the_image_has_its_own():
    arguments = run()
    assert arguments[-1] == "image:1"
    assert "--entrypoint" not in arguments


def test_options_of_each_run_come_before_the_image():
    arguments = run(command=("serve",))
    assert arguments.index("--ulimit") < arguments.index("image:1")


def test_values_of_variables_are_not_in_the_command_line():
    container = Container("name", "image:1", env={"TOKEN": "secret"})
    arguments = EngineCommand(("podman",)).run(container)
    assert after(arguments, "--env") == ["TOKEN"]
    assert "secret" not in repr((arguments, container))
    assert environ_for(container, {"PATH": "/bin"}) == {"PATH": "/bin", "TOKEN": "secret"}


@pytest.mark.parametrize("name", ["PATH", "HOME", "LD_PRELOAD", "DOCKER_HOST", "http_proxy"])
def test_variables_that_would_change_the_engine_itself_do_not_reach_it(name):
    container = Container("name", "image:1", env={name: "value"})
    assert after(EngineCommand(("podman",)).run(container), "--env") == [f"{name}=value"]
    assert environ_for(container, {}) == {}


@pytest.mark.parametrize("name", ["*", "HTTP*", "A=B"])
def test_a_variable_is_never_a_pattern_of_those_of_the_engine(name):
    container = Container("name", "image:1", env={name: "value"})
    assert after(EngineCommand(("podman",)).run(container), "--env") == [f"{name}=value"]
    assert environ_for(container, {}) == {}


def test_resources_are_limits():
    arguments = run(cpus=0.5, memory=1000)
    assert after(arguments, "--cpus") == ["0.5"]
    assert after(arguments, "--memory") == ["1000"]


def test_no_more_cores_are_asked_for_than_the_machine_has():
    assert float(after(run(cpus=10_000), "--cpus")[0]) < 10_000


def test_gpus_are_named_in_each_engines_words():
    assert after(run(gpus=(0, 2)), "--device") == ["nvidia.com/gpu=0", "nvidia.com/gpu=2"]
    assert after(run("/usr/bin/docker", gpus=(0, 2)), "--gpus") == ['"device=0,2"']


def test_ports_are_published_on_this_machine_alone():
    assert after(run(publish=((1, 2),)), "--publish") == ["127.0.0.1:1:2"]


def test_a_container_may_share_anothers_network():
    assert after(run(network="other"), "--network") == ["container:other"]
