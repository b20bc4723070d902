"""Triggers of async endpoints: a task for each time of a cron schedule, once, whatever ends the server."""

import os
import signal
import time
from datetime import UTC, datetime

import pytest
from records import execute
from server_driver import DEADLINE, SMALL, eventually, http, problem, running

from openlaunch import EndpointRequest
from openlaunch.errors import NotFound, Unprocessable


def report(day: str = "today") -> str:
    return f"of {day}"


def deploy(client, name="report", kind="async"):
    return client.deploy(report, name=name, endpoint_type=kind, min_workers=0, **SMALL)


def trigger(client, name="nightly", schedule="0 4 1 1 *", endpoint="report", **options):
    return client.create_trigger(name=name, cron_schedule=schedule, endpoint=endpoint, **options)[
        "trigger_id"
    ]


def due(data_dir, trigger_id, at):
    """Have a trigger be due since then, as if its time had come."""
    execute(data_dir, f"UPDATE triggers SET next_at = {at} WHERE id = '{trigger_id}'")


def tasks_of(client):
    return client.list_tasks("report").tasks


@pytest.fixture(scope="module")
def client():
    with running() as client:
        deploy(client)
        deploy(client, "answers", "sync")
        yield client


def test_each_time_has_one_task_also_after_a_kill(tmp_path):
    with running(tmp_path) as client:
        deploy(client)
        trigger_id = trigger(client, args={"day": "monday"})
    due(tmp_path, trigger_id, time.time() - 3 * 366 * 24 * 3600)
    for _ in range(2):
        with running(tmp_path) as client:
            task_id = eventually(lambda client=client: client.get_trigger(trigger_id)["last_task_id"])
            (task,) = eventually(
                lambda client=client: [each for each in tasks_of(client) if each.status == "SUCCESS"]
            )
            assert task.task_id == task_id
            found = client.get_trigger(trigger_id)
            assert found["endpoint"] == "report"
            assert found["args"] == {"day": "monday"}
            assert found["next_at"] > found["last_at"]
            with http(client) as raw:
                answer = raw.get(f"/v1/async-tasks/{task_id}").json()
            assert "of monday" in str(answer["result"])
            os.kill(client.server.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_time_that_has_had_its_task_has_no_second_one(tmp_path):
    with running(tmp_path) as client:
        deploy(client)
        trigger_id = trigger(client)
    ids = set()
    at = int(time.time()) - 60
    for _ in range(2):  # as if the clock had been set back
        due(tmp_path, trigger_id, at)
        with running(tmp_path) as client:
            now = datetime.now(UTC).isoformat()
            eventually(lambda client=client, now=now: client.get_trigger(trigger_id)["next_at"] > now)
            ids |= {each.task_id for each in tasks_of(client)} | {
                client.get_trigger(trigger_id)["last_task_id"]
            }
    assert len(ids) == 1


def test_why_a_time_has_no_task_is_shown(tmp_path):
    with running(tmp_path) as client:
        deploy(client)
        trigger_id = trigger(client)
        client.delete_model_endpoint("report")
    due(tmp_path, trigger_id, time.time() - 60)
    with running(tmp_path) as client:
        eventually(lambda: client.get_trigger(trigger_id)["last_error"])
        assert client.get_trigger(trigger_id)["last_error"] == "there is no endpoint named 'report'"


def test_what_no_task_could_be_is_refused_at_once(client):
    with pytest.raises(NotFound, match="you have no endpoint named 'repport'"):
        trigger(client, endpoint="repport")
    with pytest.raises(Unprocessable, match="'answers' is a sync endpoint"):
        trigger(client, endpoint="answers")
    with pytest.raises(Unprocessable, match="day"):
        trigger(client, args={"day": 3})
    with pytest.raises(Unprocessable, match="the limit is 65536"):
        trigger(client, args={"day": "x" * 70_000})
    with pytest.raises(Unprocessable, match="minute, hour, day, month and weekday are needed"):
        trigger(client, schedule="often")
    assert client.list_triggers() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one of bundle_id"),
        ({"bundle_id": "b", "endpoint": "report"}, "give one of bundle_id"),
        ({"bundle_id": "b", "args": {}}, "args are for an endpoint"),
        ({"endpoint": "report", "default_job_config": {"x": 1}}, "are for image jobs"),
    ],
)
def test_a_trigger_is_of_a_bundle_or_of_an_endpoint(client, given, said):
    with http(client) as raw:
        answer = raw.post("/v1/triggers", json={"name": "x", "cron_schedule": "* * * * *"} | given)
    assert said in str(problem(answer, 422))


def test_numbers_of_args_may_have_any_size(client):
    with pytest.raises(Unprocessable, match='is not of type "string"'):
        trigger(client, name="large", args={"day": 2**70})


def test_args_and_schedule_change(client):
    trigger_id = trigger(client, args={"day": "monday"})
    client.update_trigger(trigger_id, args={"day": "sunday"}, cron_schedule="0 5 1 1 *")
    with pytest.raises(Unprocessable, match="day"):
        client.update_trigger(trigger_id, args={"day": 1})
    found = client.get_trigger(trigger_id)
    assert (found["args"], found["cron_schedule"]) == ({"day": "sunday"}, "0 5 1 1 *")
    client.delete_trigger(trigger_id)


@pytest.mark.slow
def test_the_times_of_a_schedule_come(client):
    trigger_id = trigger(client, "minutely", "* * * * *", args={"day": "now"})
    eventually(lambda: client.get_trigger(trigger_id)["last_task_id"], 90)
    task_id = client.get_trigger(trigger_id)["last_task_id"]
    client.delete_trigger(trigger_id)
    eventually(lambda: client.get_task(task_id).status == "SUCCESS", DEADLINE)
    assert client.get_model_endpoint("report").predict(EndpointRequest(args={})).get().value == "of today"
