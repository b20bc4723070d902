"""Image jobs on nodes: containers that outlive servers and agents, of which each server clears what is its own."""

from contextlib import contextmanager

import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from container_driver import IMAGE, PYTHON
from records import execute
from server_driver import eventually

from openlaunch import LaunchClient
from openlaunch.errors import BatchJobFailed

pytestmark = pytest.mark.slow

LITTLE = {"cpus": 0.1, "memory": "64Mi"}
AT_A_GATE = """
import pathlib, time
print("up", flush=True)
time.sleep({seconds})
print("done", flush=True)
"""


@contextmanager
def site(engine, folder, nodes=1):
    """Agents, a server that can be killed, and a client of it."""
    with agents(nodes, **engine.settings()) as started:
        server = ChaosServer(folder / "data", **settings_of(started))
        with server, LaunchClient(server.api_key, server.url, max_retries=8) as client:
            yield started, server, client


def run(client, code, image=IMAGE, **options):
    made = client.create_docker_image_batch_job_bundle(
        name="job",
        image_repository=image[0],
        image_tag=image[1],
        command=[PYTHON, "-c", code],
        **LITTLE | options,
    )
    bundle = made["docker_image_batch_job_bundle_id"]
    return client.create_docker_image_batch_job(docker_image_batch_job_bundle=bundle)["job_id"]


def waiting(client, seconds=600):
    """A job that runs."""
    job_id = run(client, AT_A_GATE.format(seconds=seconds))
    eventually(lambda: client.get_docker_image_batch_job(job_id)["status"] == "RUNNING")
    return job_id


def ended(client, job_id):
    job = client.wait_for_docker_image_batch_job(job_id, 60)
    return job["status"], client.read_docker_image_batch_job_logs(job_id)


def test_jobs_run_on_all_nodes_and_what_is_wrong_with_one_is_said(engine, tmp_path):
    with site(engine, tmp_path, nodes=2) as (_, _, client):
        both = [waiting(client) for _ in range(2)]
        assert [node.workers for node in client.list_nodes()] == [1, 1]
        hello = run(client, "import os; print('hello', os.environ['WHO'])", env={"WHO": "you"})
        assert ended(client, hello) == ("SUCCESS", "hello you\n")
        for code, reason in (
            ("raise SystemExit(3)", "the container exited with code 3"),
            ("", "can't be fetched"),
        ):
            image = IMAGE if code else ("127.0.0.1:9/none", "1")
            with pytest.raises(BatchJobFailed, match=reason):
                client.wait_for_docker_image_batch_job(run(client, code, image), 60)
        large = run(client, "", cpus=1000)
        said = "the job waits for 1000 CPUs and 64 MiB of memory on a node"
        eventually(lambda: client.get_docker_image_batch_job(large)["status_reason"] == said)
        for job_id in (*both, large):
            client.update_docker_image_batch_job(job_id, cancel=True)
        eventually(lambda: engine.names() == [])
        eventually(lambda: [node.workers for node in client.list_nodes()] == [0, 0])


def test_a_job_continues_when_its_server_and_its_agent_are_killed(engine, tmp_path):
    with site(engine, tmp_path) as ((node,), server, client):
        job_id = run(client, AT_A_GATE.format(seconds=5))
        eventually(lambda: client.get_docker_image_batch_job(job_id)["status"] == "RUNNING")
        server.kill()
        node.kill()
        node.start()
        server.start()
        server.wait_until_up()
        assert ended(client, job_id) == ("SUCCESS", "up\ndone\n")
        eventually(lambda: engine.names() == [])


def test_what_is_left_of_a_job_that_has_ended_is_removed_and_nothing_of_others(engine, tmp_path):
    with site(engine, tmp_path) as ((node,), server, client):
        left, running = waiting(client), waiting(client)
        (other_data := tmp_path / "other").mkdir()
        with (
            ChaosServer(other_data, **settings_of([node])) as other,
            LaunchClient(other.api_key, other.url, max_retries=8) as theirs,
        ):
            of_others = waiting(theirs)
            server.kill()
            execute(server.data_dir, f"UPDATE docker_image_jobs SET status = 'CANCELLED' WHERE id = '{left}'")
            server.start()
            server.wait_until_up()
            names = {f"openlaunch-{job_id}" for job_id in (running, of_others)}
            eventually(lambda: set(engine.names()) == names)
            for each, job_id in ((client, running), (theirs, of_others)):
                assert each.get_docker_image_batch_job(job_id)["status"] == "RUNNING"
                each.update_docker_image_batch_job(job_id, cancel=True)
            eventually(lambda: engine.names() == [])
