"""Tasks and jobs on the page: how far they are, and what became of them."""

import json
import re
import time

import pytest
from page_driver import MARKUP, double, expect, see, sign_in, waits_for
from server_driver import SMALL, args, http

pytestmark = pytest.mark.slow


def test_a_failed_task_shows_its_traceback_and_is_run_again(page, client):
    sign_in(page, client)
    page.get_by_role("link", name="Tasks").click()
    page.get_by_label("Status").select_option("FAILURE")
    page.locator("td a[href^='#tasks/']").first.click()
    see(page, "Traceback")
    see(page, re.compile("is negative"))
    first = page.url
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: url != first)
    see(page, re.compile("is negative"))


def test_tasks_are_found_by_label_time_and_id(page, client):
    name = f"found-{time.time_ns()}"
    labelled = client.deploy(double, name=name, endpoint_type="async", labels={"run": name}, **SMALL)
    (task_id,) = [labelled.predict(args(x=3)).async_task_id]
    sign_in(page, client)
    page.get_by_role("link", name="Tasks").click()
    page.get_by_label("Label of its endpoint").fill(f"run={name}")
    page.get_by_label("Submitted from").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=task_id).wait_for()
    page.get_by_label("Submitted until").fill("2020-01-02T00:00")
    page.get_by_role("button", name="Search").click()
    see(page, "No task fits.")
    page.get_by_label("Id", exact=True).fill(task_id)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("heading", name=f"Task {task_id}").wait_for()


def test_a_task_that_runs_says_how_far_it_is(page, client, tmp_path):
    endpoint = client.deploy(waits_for, name="slow", endpoint_type="async", max_workers=1, **SMALL)
    task = endpoint.predict(args(path=str(tmp_path / "go")))
    sign_in(page, client)
    page.goto(f"{client.server.url}/#tasks/{task.async_task_id}")
    see(page, f"50 % half {MARKUP}")
    (tmp_path / "go").touch()
    task.get(60)


def test_a_batch_for_a_model_shows_its_progress_and_its_answers_are_saved(page, client):
    client.get_model_endpoint("chat").wait_until_ready(60)
    asked = {"model": "chat", "messages": [{"role": "user", "content": MARKUP}]}
    of = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
    lines = "".join(json.dumps({"custom_id": f"line-{n}", **of}) + "\n" for n in range(3))
    with http(client) as raw:
        stored = raw.post("/v1/files", files={"file": ("in.jsonl", lines)}, data={"purpose": "batch"}).json()
        batch = {"input_file_id": stored["id"], "endpoint": of["url"], "metadata": {"note": MARKUP}}
        assert raw.post("/v1/batches", json=batch).status_code == 200
    sign_in(page, client)
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("link", name="Batches for models").click()
    see(page, "3 of 3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Answers").click()
    answers = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert {each["custom_id"] for each in answers} == {"line-0", "line-1", "line-2"}
