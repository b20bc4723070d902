"""Image jobs of several servers on one database: they and their logs outlive the server that led when they began."""

import os
import signal

import pytest
from agents import agents, settings_of
from cluster_servers import TOKEN, Servers, client_of
from container_driver import IMAGE, PYTHON, container_engine
from server_driver import eventually

from openlaunch import LaunchClient

pytestmark = pytest.mark.slow


def begun(client: LaunchClient, code: str) -> str:
    made = client.create_docker_image_batch_job_bundle(
        name="job",
        image_repository=IMAGE[0],
        image_tag=IMAGE[1],
        command=[PYTHON, "-c", code],
        cpus=0.1,
        memory="64Mi",
    )["docker_image_batch_job_bundle_id"]
    return str(client.create_docker_image_batch_job(docker_image_batch_job_bundle=made)["job_id"])


def test_jobs_and_their_logs_outlive_the_server_that_led(servers: Servers) -> None:
    with (
        container_engine() as engine,
        agents(1, token=TOKEN, **engine.settings()) as nodes,
        servers.two(**settings_of(nodes, TOKEN)) as (first, second),
        client_of(second) as there,
    ):
        ended = begun(there, "print('ended')")
        assert there.wait_for_docker_image_batch_job(ended, 60)["status"] == "SUCCESS"
        running = begun(there, "import time; print('up', flush=True); time.sleep(6); print('done')")
        eventually(lambda: there.read_docker_image_batch_job_logs(running) == "up\n")
        os.kill(first.pid, signal.SIGKILL)
        assert there.wait_for_docker_image_batch_job(running, 60)["status"] == "SUCCESS"
        assert there.read_docker_image_batch_job_logs(running) == "up\ndone\n"
        assert there.read_docker_image_batch_job_logs(ended) == "ended\n"
        eventually(lambda: engine.names() == [])
