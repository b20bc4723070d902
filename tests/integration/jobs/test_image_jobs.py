"""Container images that are run to their end, with real containers where they can be started."""

import json
import os
import signal
import time

import pytest
from container_driver import IMAGE, PYTHON
from records import execute
from server_driver import SMALL, eventually, http, running

from openlaunch.errors import BatchJobFailed, EndpointFailed, NotFound, Unprocessable, WaitTimeout

pytestmark = pytest.mark.slow

HELLO = "import os; print('hello', os.environ.get('WHO'))"
FOR_EVER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def client(engine):
    with running(max_running_batch_jobs=4, **engine.settings()) as client:
        yield client


def bundle(client, name, code, **options):
    options = {"cpus": 0.1, "memory": "64Mi", "env": {"WHO": "you"}, **options}
    made = client.create_docker_image_batch_job_bundle(
        name=name, image_repository=IMAGE[0], image_tag=IMAGE[1], command=[PYTHON, "-c", code], **options
    )
    return made["docker_image_batch_job_bundle_id"]


def run(client, made, **options):
    return client.create_docker_image_batch_job(docker_image_batch_job_bundle=made, **options)["job_id"]


def status(client, job_id):
    return client.get_docker_image_batch_job(job_id)["status"]


def until(client, job_id, wanted):
    eventually(lambda: status(client, job_id) == wanted)


@pytest.fixture(scope="module")
def hello(client):
    return bundle(client, "hello", HELLO)


@pytest.fixture(scope="module")
def endless(client):
    return bundle(client, "endless", FOR_EVER)


def test_a_job_runs_to_its_end_with_its_environment(client, engine, hello):
    job_id = run(client, hello, labels={"team": "a"})
    job = client.wait_for_docker_image_batch_job(job_id, 30)
    assert (job["status"], job["annotations"]) == ("SUCCESS", {"team": "a"})
    assert client.read_docker_image_batch_job_logs(job_id) == "hello you\n"
    eventually(lambda: engine.names() == [])


def test_the_newest_bundle_of_a_name_is_run(client):
    bundle(client, "versions", "raise SystemExit(1)")
    newest = bundle(client, "versions", HELLO)
    job_id = client.create_docker_image_batch_job(docker_image_batch_job_bundle_name="versions")["job_id"]
    job = client.wait_for_docker_image_batch_job(job_id, 30)
    assert job["docker_image_batch_job_bundle_id"] == newest
    assert client.get_latest_docker_image_batch_job_bundle("versions")["id"] == newest
    listed = client.list_docker_image_batch_job_bundles("versions")["docker_image_batch_job_bundles"]
    assert listed[0]["id"] == newest


def test_the_configuration_is_a_file_inside(client, engine):
    engine.needs_real()
    made = bundle(
        client, "configured", "print(open('/tmp/config.json').read())", mount_location="/tmp/config.json"
    )
    job_id = run(client, made, job_config={"rate": 0.5})
    client.wait_for_docker_image_batch_job(job_id, 30)
    assert json.loads(client.read_docker_image_batch_job_logs(job_id)) == {"rate": 0.5}


def test_a_configuration_without_a_place_is_refused(client, hello):
    with pytest.raises(Unprocessable, match="has no mount_location"):
        run(client, hello, job_config={"rate": 0.5})


def test_a_failure_has_the_exit_code_and_the_last_lines(client):
    job_id = run(client, bundle(client, "failing", "print('so it goes'); raise SystemExit(3)"))
    with pytest.raises(BatchJobFailed, match=r"is FAILURE: the container exited with code 3; .*\nso it goes"):
        client.wait_for_docker_image_batch_job(job_id, 30)


def test_an_image_that_is_not_there_says_so(client):
    made = client.create_docker_image_batch_job_bundle(
        name="none", image_repository="127.0.0.1:9/none", image_tag="1", command=["x"]
    )
    with pytest.raises(BatchJobFailed, match=r"the image '127\.0\.0\.1:9/none:1' can't be fetched"):
        client.wait_for_docker_image_batch_job(run(client, made["docker_image_batch_job_bundle_id"]), 30)


def test_a_job_ends_at_its_limit(client, engine, endless):
    job_id = run(client, endless, override_job_max_runtime_s=1)
    with pytest.raises(BatchJobFailed, match=r"is TIMEOUT: the job ran for 1 s, its limit"):
        client.wait_for_docker_image_batch_job(job_id, 30)
    eventually(lambda: engine.names() == [])


def test_a_job_that_is_cancelled_leaves_no_container(client, engine, endless):
    job_id = run(client, endless)
    until(client, job_id, "RUNNING")
    eventually(lambda: "up" in client.read_docker_image_batch_job_logs(job_id))
    assert client.update_docker_image_batch_job(job_id, cancel=True) == {"success": True}
    assert status(client, job_id) == "CANCELLED"
    eventually(lambda: engine.names() == [])
    assert client.update_docker_image_batch_job(job_id, cancel=True) == {"success": False}


def test_more_jobs_than_an_owner_may_run_wait_their_turn(client, engine, endless, hello):
    first, second, third = run(client, endless), run(client, endless), run(client, hello)
    until(client, first, "RUNNING")
    until(client, second, "RUNNING")
    with pytest.raises(WaitTimeout, match="is PENDING"):
        client.wait_for_docker_image_batch_job(third, 0.2)
    client.update_docker_image_batch_job(first, cancel=True)
    client.wait_for_docker_image_batch_job(third, 30)
    client.update_docker_image_batch_job(second, cancel=True)
    eventually(lambda: engine.names() == [])


def test_a_job_goes_on_while_its_server_is_killed_and_its_end_is_seen_by_the_next(engine, tmp_path):
    done = tmp_path / "done"
    code = f"import os, time\nwhile not os.path.exists({str(done)!r}): time.sleep(0.05)\nprint('went on')"
    mount = "" if engine.fake else f" --volume={tmp_path}:{tmp_path}:ro"
    settings = engine.settings()
    settings["container_run_options"] += mount
    with running(tmp_path / "data", **settings) as client:
        job_id = run(client, bundle(client, "long", code))
        until(client, job_id, "RUNNING")
        os.kill(client.server.pid, signal.SIGKILL)
    assert len(engine.names()) == 1
    with running(tmp_path / "data", **settings) as client:
        assert status(client, job_id) == "RUNNING"
        done.touch()
        client.wait_for_docker_image_batch_job(job_id, 30)
        assert client.read_docker_image_batch_job_logs(job_id) == "went on\n"
        eventually(lambda: engine.names() == [])


def test_a_job_whose_container_is_gone_after_a_restart_is_a_failure(engine, tmp_path):
    with running(tmp_path, **engine.settings()) as client:
        job_id = run(client, bundle(client, "gone", FOR_EVER))
        until(client, job_id, "RUNNING")
    engine.call("kill", *engine.names())
    engine.call("rm", "--force", *engine.names())
    with (
        running(tmp_path, **engine.settings()) as client,
        pytest.raises(BatchJobFailed, match="container is gone"),
    ):
        client.wait_for_docker_image_batch_job(job_id, 30)


def test_without_an_engine_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with running(container_engine="") as client:
        job_id = run(client, bundle(client, "none", HELLO))
        with pytest.raises(BatchJobFailed, match="apt install podman"):
            client.wait_for_docker_image_batch_job(job_id, 30)
        client.create_model_bundle_from_runnable_image_v2(
            model_bundle_name="none", repository=IMAGE[0], tag=IMAGE[1], command=["serve"]
        )
        endpoint = client.create_model_endpoint(endpoint_name="none", model_bundle="none", **SMALL)
        with pytest.raises(EndpointFailed, match=r"is UPDATE_FAILED: .*apt install podman"):
            endpoint.wait_until_ready(60)


def test_others_jobs_and_bundles_are_not_seen(client, hello):
    job_id = run(client, hello)
    other = client.create_api_key("other", "user").api_key
    with http(client, other) as raw:
        assert raw.get(f"/v1/docker-image-batch-jobs/{job_id}").status_code == 404
        assert raw.get(f"/v1/docker-image-batch-job-bundles/{hello}").status_code == 404
        assert raw.get("/v1/docker-image-batch-jobs").json() == {"jobs": []}
    client.wait_for_docker_image_batch_job(job_id, 30)


@pytest.mark.parametrize(
    "options",
    [
        {"image_tag": "--privileged"},
        {"mount_location": "relative"},
        {"gpus": 1000},
        {"gpus": 166639936580},
        {"command": ["a\0b"]},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": "1\0"}},
        {"memory": "much"},
    ],
)
def test_what_is_not_allowed_is_refused(client, options):
    options = {"image_repository": "a", "image_tag": "1", "command": ["x"], **options}
    with pytest.raises(Unprocessable):
        client.create_docker_image_batch_job_bundle(name="refused", **options)


def test_a_job_names_its_bundle_once(client, hello):
    with pytest.raises(Unprocessable, match="exactly one of"):
        client.create_docker_image_batch_job()
    with pytest.raises(NotFound):
        run(client, "dib_none")


def due(data_dir, trigger_id, seconds_ago):
    """Have a trigger be due, as if its time had come."""
    execute(data_dir, f"UPDATE triggers SET next_at = {time.time() - seconds_ago} WHERE id = '{trigger_id}'")


def trigger(client, made, name="nightly", schedule="0 4 1 1 *", **options):
    return client.create_trigger(name=name, cron_schedule=schedule, bundle_id=made, **options)["trigger_id"]


def test_a_trigger_fires_once_for_what_was_missed_and_not_again(engine, tmp_path):
    with running(tmp_path, **engine.settings()) as client:
        trigger_id = trigger(client, bundle(client, "hello", HELLO), default_job_metadata={"by": "cron"})
    due(tmp_path, trigger_id, 3 * 366 * 24 * 3600)
    for _ in range(2):
        with running(tmp_path, **engine.settings()) as client:
            jobs = eventually(lambda client=client: client.list_docker_image_batch_jobs(trigger_id))
            client.wait_for_docker_image_batch_job(jobs[0]["id"], 30)
            assert [job["annotations"] for job in jobs] == [{"by": "cron"}]
            assert client.get_trigger(trigger_id)["next_at"] > jobs[0]["created_at"]
            os.kill(client.server.pid, signal.SIGKILL)


def test_a_trigger_that_is_suspended_makes_up_for_nothing(engine, tmp_path):
    with running(tmp_path, **engine.settings()) as client:
        trigger_id = trigger(client, bundle(client, "hello", HELLO))
        client.update_trigger(trigger_id, suspend=True)
        assert client.get_trigger(trigger_id)["next_at"] is None
    due(tmp_path, trigger_id, 3600)
    with running(tmp_path, **engine.settings()) as client:
        client.update_trigger(trigger_id, suspend=False)
        assert client.get_trigger(trigger_id)["next_at"] is not None
        assert client.list_docker_image_batch_jobs(trigger_id) == []


def test_a_trigger_that_is_deleted_leaves_its_jobs(engine, tmp_path):
    with running(tmp_path, **engine.settings()) as client:
        trigger_id = trigger(client, bundle(client, "hello", HELLO))
    due(tmp_path, trigger_id, 60)
    with running(tmp_path, **engine.settings()) as client:
        eventually(lambda: client.list_docker_image_batch_jobs(trigger_id))
        client.delete_trigger(trigger_id)
        assert client.list_triggers() == []
        assert len(client.list_docker_image_batch_jobs(trigger_id)) == 1


@pytest.mark.parametrize("schedule", ["often", "61 * * * *", "* * * * * *", "@daily", "0 0 30 2 *"])
def test_what_is_no_schedule_is_refused(client, hello, schedule):
    with pytest.raises(Unprocessable, match="minute, hour, day, month and weekday are needed"):
        trigger(client, hello, schedule=schedule)
