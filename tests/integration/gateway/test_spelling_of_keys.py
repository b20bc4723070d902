"""A body means the same however JSON spells it: with escapes in its keys, and with a key that stands there twice."""

import json
import sys
import time
from pathlib import Path

import pytest
from server_driver import SMALL, eventually

NOWHERE = "http://127.0.0.1:9/callback"


def note(path=None, name="", seconds=0, until=None):
    """Write down the name, and then wait for so long, or for a file."""
    if path is not None:
        with Path(path).open("a") as file:
            file.write(f"{name}\n")
    end = time.monotonic() + (60 if until else seconds)
    while time.monotonic() < end and not (until and Path(until).exists()):
        time.sleep(0.01)
    return name


def deployed(client, name):
    settings = {"endpoint_type": "async", "max_workers": 1, "per_worker": 1, **SMALL}
    return client.deploy(note, name=name, **settings).model_endpoint.id


@pytest.fixture(scope="module")
def endpoint(client):
    return deployed(client, "spelling")


@pytest.fixture(scope="module")
def sync(client):
    return client.deploy(note, name="spelling-sync", **SMALL).model_endpoint.id


def escaped(document):
    """The document as JSON whose outer keys are spelled with escapes alone."""
    return fields(*((escape(key), value) for key, value in document.items()))


def fields(*pairs):
    """A JSON object with these fields, whose keys are in JSON already."""
    return "{" + ", ".join(f'"{key}": {json.dumps(value)}' for key, value in pairs) + "}"


def escape(key):
    return "".join(f"\\u{ord(character):04x}" for character in key)


def test_the_escapes_of_these_tests_are_json():
    document = {"args": {"priority": 1}, "callback_url": None}
    assert json.loads(escaped(document)) == document


def one(raw, endpoint, *bodies):
    url = f"/v1/async-tasks?model_endpoint_id={endpoint}"
    answers = [raw.post(url, content=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [200] * len(bodies), answers[0].text
    return [answer.json()["task_id"] for answer in answers]


def bulk(raw, endpoint, *bodies):
    content = '{"requests": [' + ", ".join(bodies) + "]}"
    answer = raw.post(f"/v1/async-tasks/bulk?model_endpoint_id={endpoint}", content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["task_ids"]


each_submit = pytest.mark.parametrize("submit", [one, bulk])


def result(raw, task_id):
    def done():
        answer = raw.get(f"/v1/async-tasks/{task_id}", params={"wait": 10}).json()
        return answer if answer["status"] in ("SUCCESS", "FAILURE") else None

    return eventually(done)


def payload(raw, task_id):
    answer = raw.get(f"/v1/async-tasks/{task_id}/payload")
    assert answer.status_code == 200, answer.text
    return answer


@each_submit
def test_a_callback(raw, endpoint, submit):
    (task_id,) = submit(raw, endpoint, escaped({"args": {}, "callback_url": NOWHERE}))
    (delivery,) = raw.get(f"/v1/async-tasks/{task_id}/deliveries").json()["deliveries"]
    assert delivery["url"] == NOWHERE


@each_submit
def test_a_pickled_result(raw, endpoint, submit):
    (task_id,) = submit(raw, endpoint, escaped({"args": {}, "return_pickled": True}))
    assert "result_url" in result(raw, task_id)["result"]


@each_submit
def test_a_timeout(raw, endpoint, submit):
    body = escaped({"args": {"seconds": 60}, "timeout_seconds": 0.2})
    (task_id,) = submit(raw, endpoint, body)
    assert result(raw, task_id)["status_code"] == 504


@each_submit
def test_a_priority(client, raw, submit, tmp_path):
    # On an endpoint that has run no task yet: where tasks are known to be short, some are claimed ahead, and those
    # that come later can't overtake them.
    endpoint = deployed(client, f"priority-{submit.__name__}")
    order, until = tmp_path / "order", tmp_path / "until"
    first = {"args": {"path": str(order), "name": "first", "until": str(until)}}
    one(raw, endpoint, json.dumps(first))
    eventually(order.exists)
    wanted = {"low": -5, "middle": 0, "high": 5}
    bodies = [escaped({"args": {"path": str(order), "name": n}, "priority": p}) for n, p in wanted.items()]
    task_ids = submit(raw, endpoint, *bodies)
    until.touch()
    assert [result(raw, task_id)["status"] for task_id in task_ids] == ["SUCCESS"] * 3
    assert order.read_text().split() == ["first", "high", "middle", "low"]


@pytest.mark.parametrize("field", [{"callback_url": NOWHERE}, {"priority": 1}])
def test_what_only_tasks_have_is_refused_in_a_sync_request(raw, sync, field):
    answer = raw.post(f"/v1/sync-tasks?model_endpoint_id={sync}", content=escaped({"args": {}, **field}))
    assert answer.status_code == 422
    assert next(iter(field)) in answer.text


def test_a_task_that_is_run_again_asks_for_the_same(raw, endpoint):
    body = escaped({"args": {"nonsense": 1}, "callback_url": NOWHERE})
    (task_id,) = one(raw, endpoint, body)
    assert result(raw, task_id)["status"] == "FAILURE"
    again = raw.post(f"/v1/async-tasks/{task_id}/rerun").json()["task_id"]
    (delivery,) = raw.get(f"/v1/async-tasks/{again}/deliveries").json()["deliveries"]
    assert delivery["url"] == NOWHERE


SECRET = {"kind": "basic", "username": "ada", "password": "pssst"}


@each_submit
def test_the_password_of_a_callback_is_not_shown(raw, endpoint, submit):
    document = {"args": {"nonsense": 1}, "callback_url": NOWHERE, "callback_auth": SECRET}
    (task_id,) = submit(raw, endpoint, escaped(document))
    result(raw, task_id)
    shown = payload(raw, task_id)
    assert "pssst" not in shown.text
    assert shown.json()["callback_auth"] == {"kind": "basic", "username": "ada", "password": "********"}
    assert shown.json()["args"] == {"nonsense": 1}


def nested(depth):
    """A body with a secret and an argument that is nested this deep."""
    head = fields(("callback_url", NOWHERE), ("callback_auth", SECRET))[:-1]
    return f'{head}, "args": {{"nonsense": {"[" * depth}{"]" * depth}}}}}'


def test_the_password_of_a_callback_is_not_shown_of_a_deep_body(raw, endpoint):
    body = nested(300)
    (task_id,) = one(raw, endpoint, body)
    result(raw, task_id)
    shown = payload(raw, task_id)
    assert "pssst" not in shown.text
    assert shown.json()["args"] == json.loads(body)["args"]


def test_a_payload_that_is_too_deep_to_mask_its_password_is_refused(raw, endpoint):
    (task_id,) = one(raw, endpoint, nested(1010))
    result(raw, task_id)
    answer = raw.get(f"/v1/async-tasks/{task_id}/payload")
    # From Python 3.12 on, the JSON module goes deeper than any request that is accepted.
    refused = sys.version_info < (3, 12)
    assert (answer.status_code, answer.json().get("code")) == ((422, "too_deep") if refused else (200, None))
    assert "pssst" not in answer.text


@pytest.mark.parametrize("last", [None, {"kind": "basic", "username": "bob", "password": "last"}])
def test_of_a_key_that_stands_twice_neither_password_is_shown(raw, endpoint, last):
    pairs = {"args": {"nonsense": 1}, "callback_url": NOWHERE, "callback_auth": SECRET}.items()
    body = fields(*pairs, (escape("callback_auth"), last))
    (task_id,) = one(raw, endpoint, body)
    result(raw, task_id)
    shown = payload(raw, task_id)
    assert "pssst" not in shown.text
    assert '"last"' not in shown.text


def test_an_argument_with_the_name_of_a_secret_is_shown_as_it_came(raw, endpoint):
    body = '{"args": {"callback_auth": {"password": "no secret"}}, "\\u0070riority": 0}'
    (task_id,) = one(raw, endpoint, body)
    result(raw, task_id)
    assert payload(raw, task_id).text == body


def test_of_a_key_that_stands_twice_the_last_counts_for_all(raw, endpoint):
    first = {"args": {"name": "first"}, "callback_url": f"{NOWHERE}/first", "return_pickled": True}
    last = {"args": {"name": "last"}, "callback_url": NOWHERE, "return_pickled": False}
    body = fields(*first.items(), *((escape(key), value) for key, value in last.items()))
    (task_id,) = one(raw, endpoint, body)
    assert result(raw, task_id)["result"] == {"result": '"last"'}
    (delivery,) = raw.get(f"/v1/async-tasks/{task_id}/deliveries").json()["deliveries"]
    assert delivery["url"] == NOWHERE
