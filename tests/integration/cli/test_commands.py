"""The commands against a running server, in this process."""

import io
import json
import sys

import pytest
from server_driver import eventually

from openlaunch import EndpointRequest
from openlaunch.cli.app import run
from openlaunch.testing import local

SMALL = {"cpus": 0.1, "memory": "64Mi"}
RESOURCES = ("--cpus", "0.1", "--memory", "64Mi")


def count(n):
    yield from range(n)


def greet(name, fail=False):
    if fail:
        raise ValueError("no greeting")
    print("greeting", name, flush=True)
    return f"hällo {name}"


def wait_long(seconds):
    import time

    time.sleep(seconds)
    return {"slept": seconds}


@pytest.fixture(scope="module")
def client():
    with local() as client:
        sync = client.deploy(greet, name="greet", wait=False, **SMALL)
        stream = client.deploy(count, name="count", wait=False, **SMALL)
        queued = client.deploy(wait_long, name="queued", endpoint_type="async", wait=False, **SMALL)
        for endpoint in (sync, stream, queued):
            endpoint.wait_until_ready(60)
        yield client


@pytest.fixture
def cli(client, monkeypatch, capsys):
    """Runs a command: exit code, stdout, stderr."""
    monkeypatch.setenv("OPENLAUNCH_URL", client.server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)

    def command(*arguments):
        code = run(arguments)
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a module, which `deploy` finds there."""
    (tmp_path / "cli_model.py").write_text(
        "def load():\n    return 10\n"
        "def times(model, x: int):\n    return model * x\n"
        "def shout(text: str, loud: bool = True):\n    return text.upper()\n"
        "def shout_all(inputs):\n    return [one['text'].upper() for one in inputs]\n"
        "def broken():\n    raise RuntimeError('weights are gone')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("cli_model", None)


def test_a_sync_result_is_printed_as_it_is(cli):
    assert cli("tasks", "send", "greet", "--args", '{"name": "you"}') == (0, "hällo you\n", "")


def test_a_result_as_json_is_one_document(cli):
    code, out, _ = cli("tasks", "send", "greet", "--args", '{"name": "you"}', "--json")
    assert code == 0
    assert json.loads(out) == {
        "status": "SUCCESS",
        "result": "hällo you",
        "result_url": None,
        "traceback": None,
        "status_code": 200,
    }


def test_a_task_has_a_priority_and_a_key_that_makes_it_safe_to_send_again(cli):
    send = ("tasks", "send", "queued", "--args", '{"seconds": 0}', "--no-wait", "--priority", "3")
    first = cli(*send, "--idempotency-key", "cli-1")
    assert first[0] == 0
    assert cli(*send, "--idempotency-key", "cli-1") == first
    code, _, err = cli("tasks", "send", "greet", "--args", '{"name": "x"}', "--priority", "1")
    assert code != 0
    assert "priorities are for async endpoints" in err


def test_args_can_come_from_a_file(cli, tmp_path):
    (tmp_path / "args.json").write_text('{"name": "file"}')
    code, out, _ = cli("tasks", "send", "greet", "--args-file", str(tmp_path / "args.json"))
    assert (code, out) == (0, "hällo file\n")


def test_a_pickled_result_is_a_url(cli):
    code, out, _ = cli("tasks", "send", "greet", "--args", '{"name": "you"}', "--pickled")
    assert code == 0
    assert out.startswith("http://127.0.0.1:")


def test_a_failed_prediction_shows_the_models_traceback_and_exits_1(cli):
    code, out, err = cli("tasks", "send", "greet", "--args", '{"name": "x", "fail": true}')
    assert (code, out) == (1, "")
    assert "ValueError: no greeting" in err
    assert err.endswith("error: the prediction ended as FAILURE\n")


def test_a_streams_items_are_printed_one_a_line(cli):
    assert cli("tasks", "send", "count", "--args", '{"n": 3}') == (0, "0\n1\n2\n", "")


def test_an_async_result_is_waited_for(cli):
    code, out, _ = cli("tasks", "send", "queued", "--args", '{"seconds": 0}')
    assert (code, json.loads(out)) == (0, {"slept": 0})


def test_without_waiting_the_id_is_printed_and_the_task_can_be_looked_at_and_cancelled(cli):
    code, out, _ = cli("tasks", "send", "queued", "--args", '{"seconds": 60}', "--no-wait")
    task_id = out.strip()
    assert code == 0
    code, out, err = cli("tasks", "get", task_id, "--wait", "0.05")
    assert code == 6
    assert out in ("PENDING\n", "STARTED\n")
    assert "continues" in err
    code, out, _ = cli("tasks", "cancel", task_id, task_id, "--json")
    assert (code, json.loads(out)) == (0, [{"task_id": task_id, "cancelled": True}])
    code, out, err = cli("tasks", "get", task_id)
    assert (code, out) == (1, "")
    assert "cancelled" in err


def test_the_attempts_at_a_callback_are_shown_and_it_is_sent_once_more(cli, client):
    request = EndpointRequest(args={"seconds": 0}, callback_url="http://127.0.0.1:9/done")
    task_id = client.get_model_endpoint("queued").predict(request).async_task_id

    def attempts():
        code, out, _ = cli("tasks", "deliveries", task_id, "--json")
        assert code == 0
        (delivery,) = json.loads(out)
        return delivery["attempts"]

    eventually(attempts)
    code, out, _ = cli("tasks", "deliveries", task_id)
    assert (code, "http://127.0.0.1:9/done\tPENDING" in out) == (0, True)
    code, _, err = cli("tasks", "resend", task_id)
    assert (code, "is sent again" in err) == (0, True)
    eventually(lambda: len(attempts()) > 1)


def test_a_failed_task_is_listed_shown_and_run_again(cli):
    code, out, _ = cli("tasks", "send", "queued", "--args", '{"seconds": -1}', "--no-wait")
    task_id = out.strip()
    assert cli("tasks", "get", task_id, "--wait", "30")[0] == 1
    code, out, _ = cli("tasks", "list", "--failed")
    assert code == 0
    assert f"{task_id}\tqueued\tFAILURE\t" in out
    assert "ValueError: sleep length must be non-negative" in out
    code, out, _ = cli("tasks", "show", task_id)
    assert code == 0
    assert 'payload      {"args": {"seconds": -1}}' in out
    code, out, err = cli("tasks", "rerun", task_id, "nope", "--json")
    (again,) = json.loads(out)
    assert (code, again["task_id"]) == (3, task_id)
    assert "no task has the id 'nope'" in err
    code, out, _ = cli("tasks", "show", again["new_task_id"], "--json")
    assert json.loads(out)["payload"] == {"args": {"seconds": -1}}
    code, _, err = cli("tasks", "list", "--failed", "--status", "PENDING")
    assert (code, "give one of them" in err) == (2, True)


def test_tasks_are_listed_a_page_at_a_time(cli):
    for _ in range(2):
        cli("tasks", "send", "queued", "--args", '{"seconds": 0}', "--no-wait")
    code, out, _ = cli("tasks", "list", "--endpoint", "queued", "--limit", "1", "--json")
    page = json.loads(out)
    assert (code, len(page["tasks"])) == (0, 1)
    code, out, _ = cli(
        "tasks", "list", "--endpoint", "queued", "--limit", "1", "--cursor", page["next_cursor"]
    )
    assert code == 0
    assert page["tasks"][0]["task_id"] not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--args", "{"), "--args is not JSON: "),
        (("--args", '{"x": NaN}'), "NaN is not a JSON number"),
        (("--args", "[1]"), "--args is a JSON array; an object is needed, such as"),
        (("--args", "{}", "--url", "http://x"), "give one of --args, --args-file and --url"),
        (("--args-file", "/does/not/exist"), "/does/not/exist can't be read"),
    ],
)
def test_bad_args_are_usage_errors(cli, arguments, said):
    code, out, err = cli("tasks", "send", "greet", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err


def test_a_function_may_take_nothing(cli, client):
    client.deploy(lambda: "nothing was needed", name="takes-nothing", **SMALL)
    assert cli("predict", "takes-nothing")[:2] == (0, "nothing was needed\n")
    code, out, err = cli("predict", "greet")
    assert (code, out) == (1, "")
    assert "name" in err


def test_what_is_not_there_exits_3(cli):
    for arguments in (
        ("tasks", "send", "nope", "--args", "{}"),
        ("tasks", "get", "nope"),
        ("endpoints", "get", "nope"),
        ("endpoints", "delete", "nope", "--yes"),
        ("bundles", "get", "nope"),
        ("keys", "revoke", "nope"),
    ):
        code, out, err = cli(*arguments)
        assert (code, out) == (3, ""), arguments
        assert "nope" in err


def test_a_wrong_key_exits_3(cli):
    code, out, err = cli("--api-key", "wrong-key-of-nobody", "endpoints", "list")
    assert (code, out) == (4, "")
    assert "hint: " in err
    assert "wrong-key-of-nobody" not in err


def test_a_table_that_is_piped_has_a_line_for_each_row_and_nothing_cut_off(cli, client):
    code, out, _ = cli("endpoints", "list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[:3] == ["NAME", "TYPE", "STATUS"]
    assert len(lines) == 1 + len(client.list_model_endpoints())
    assert "…" not in out


def test_an_endpoint_is_shown_and_edited(cli):
    code, out, _ = cli("endpoints", "edit", "count", "--max-workers", "2", "--label", "team=a", "--json")
    changed = json.loads(out)
    assert code == 0
    assert changed["deployment_state"]["max_workers"] == 2
    assert changed["labels"] == {"team": "a"}
    code, out, _ = cli("endpoints", "get", "count")
    assert code == 0
    assert "team=a" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--min-workers", "-2"), "min_workers is -2"),
        (("--label", "team"), "'team' is not KEY=VALUE"),
        ((), "nothing to change"),
    ],
)
def test_a_bad_edit_is_a_usage_error(cli, arguments, said):
    code, _, err = cli("endpoints", "edit", "count", *arguments)
    assert code == 2
    assert said in err


def test_a_bundle_is_found_by_name_and_by_id_and_served_again(cli):
    by_name = json.loads(cli("bundles", "get", "greet", "--json")[1])
    assert json.loads(cli("bundles", "get", by_name["id"], "--json")[1]) == by_name
    assert by_name["id"] in cli("bundles", "list", "--name", "greet")[1]
    code, out, _ = cli("endpoints", "create", "again", "--bundle", by_name["id"], *RESOURCES)
    assert code == 0
    assert "READY" in out
    code, out, err = cli("endpoints", "create", "again", "--bundle", "greet", *RESOURCES)
    assert (code, out) == (1, "")
    assert "again" in err
    assert cli("endpoints", "delete", "again")[0] == 2  # nobody is there to be asked
    assert cli("endpoints", "delete", "again", "--yes")[0] == 0


def test_what_workers_print_is_in_the_logs(cli):
    cli("tasks", "send", "greet", "--args", '{"name": "log-reader"}')
    code, out, _ = cli("endpoints", "logs", "greet")
    assert code == 0
    assert "greeting log-reader" in out
    assert "greeting log-reader" not in cli("endpoints", "logs", "greet", "--tail-bytes", "10")[1]


def test_a_function_is_deployed_with_its_loader_and_a_line_to_try_it(cli, folder):
    code, out, err = cli("deploy", "cli_model:times", "--load", "cli_model:load", *RESOURCES)
    assert (code, out) == (0, "times is READY (sync)\n")
    assert err.splitlines()[-1] == """try it: openlaunch tasks send times --args '{"x": 1}'"""
    assert cli("tasks", "send", "times", "--args", '{"x": 1}')[1] == "10\n"


def test_what_is_deployed_for_another_owner_is_tried_by_that_owners_name(cli, folder, client):
    client.create_api_key("ada", "user")
    loader = ("--load", "cli_model:load", *RESOURCES)
    err = cli("deploy", "cli_model:times", "--owner", "ada", *loader)[2]
    assert err.splitlines()[-1] == """try it: openlaunch tasks send times --owner ada --args '{"x": 1}'"""
    assert cli("tasks", "send", "times", "--owner", "ada", "--args", '{"x": 1}')[1] == "10\n"
    code, _, err = cli("tasks", "send", "ada/times", "--args", '{"x": 1}')
    assert (code, "hint: admins send it for the owner: times --owner ada" in err) == (3, True)
    code, _, err = cli("quotas", "set", "ada", "--cpus", "lots")
    assert (code, "write it as 2, 0.5 or 500m, or unlimited or default" in err) == (2, True)
    client.set_quotas("ada", endpoints=1)
    code, _, err = cli("deploy", "cli_model:times", "--name", "ada/more", *loader)
    assert code == 4
    assert "`openlaunch quotas set OWNER`" in err
    assert "openlaunch whoami" not in err
    assert cli("endpoints", "delete", "ada/times", "--yes")[0] == 0


def test_a_secret_without_a_value_is_not_sent(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    code, _, err = cli("secrets", "set", "TOKEN")
    assert (code, "no value was given: type it, send it to standard input" in err) == (2, True)


def test_the_line_to_try_has_values_that_fit_the_parameters(cli, folder):
    err = cli("deploy", "cli_model:shout", "--no-wait", *RESOURCES)[2]
    assert """--args '{"text": "text"}'""" in err


def test_a_function_that_is_deployed_again_keeps_what_is_not_given(cli, folder):
    deploy = ("deploy", "cli_model:shout", "--name", "kept", "--min-workers", "0")
    assert "changed" not in cli(*deploy, "--max-workers", "3", "--label", "a=b", *RESOURCES)[2]
    assert "changed: nothing\n" in cli(*deploy)[2]
    assert "changed: max_workers: 3 → 4\n" in cli(*deploy, "--max-workers", "4")[2]
    code, out, err = cli(*deploy, "--reset")
    assert (code, out) == (0, "kept is READY (sync)\n")
    assert "changed: max_workers: 4 → 10; cpus: 0.1 → 0.25; memory: 64Mi → 4Gi; labels\n" in err


def test_a_function_that_takes_a_list_is_deployed_and_its_batches_are_shown_and_changed(cli, folder):
    batches = ("--max-batch-size", "8", "--max-batch-wait", "0.01")
    code, _, err = cli("deploy", "cli_model:shout_all", *batches, *RESOURCES)
    assert code == 0
    assert "tasks send shout-all --args '{}'" in err  # what an input is does not show in the signature
    assert cli("tasks", "send", "shout-all", "--args", '{"text": "a"}')[1] == "A\n"
    assert "of up to 8 requests, waiting up to 10 ms" in cli("endpoints", "get", "shout-all")[1]
    out = cli("endpoints", "edit", "shout-all", "--max-batch-size", "4")[1]
    assert "of up to 4 requests, waiting up to 10 ms" in out
    inputs = folder / "inputs.jsonl"
    inputs.write_text('{"text": "b"}\n{"text": "c"}\n')
    run = ("batch-jobs", "run", "shout-all", "--inputs", str(inputs), *RESOURCES, *batches)
    assert cli(*run)[:2] == (0, '"B"\n"C"\n')


def test_a_deployment_that_can_not_load_exits_1_with_the_reason_and_where_to_look(cli, folder):
    arguments = ("deploy", "cli_model:times", "--load", "cli_model:broken", "--name", "broken", *RESOURCES)
    code, out, err = cli(*arguments)
    assert (code, out) == (1, "")
    assert "weights are gone" in err
    assert "hint: `openlaunch endpoints logs broken --creation`" in err
    code, out, _ = cli("endpoints", "logs", "broken", "--creation")
    assert code == 0
    assert "RuntimeError: weights are gone" in out


def test_a_key_is_made_used_and_revoked(cli):
    code, out, err = cli("keys", "create", "--owner", "ann", "--json")
    made = json.loads(out)
    assert code == 0
    assert made["api_key"] not in err
    assert cli("--api-key", made["api_key"], "endpoints", "list", "--json")[:2] == (0, "[]\n")
    assert cli("--api-key", made["api_key"], "keys", "list")[0] == 4
    assert made["id"] in cli("keys", "list")[1]
    options = ("--requests-per-second", "2.5", "--burst", "9", "--requests-per-day", "100")
    assert cli("keys", "update", made["id"], *options)[1] == (
        f"limits of key {made['id']}: 2.5/s (burst 9), 100/day\n"
    )
    assert "2.5/s (burst 9), 100/day" in cli("keys", "list")[1]
    assert cli("keys", "update", made["id"], "--requests-per-day", "-1")[0] == 2
    assert cli("keys", "revoke", made["id"])[0] == 0
    code, out, _ = cli("audit", "list", "--action", "update_key")
    assert code == 0
    assert f"{made['id']}\t200" in out
    assert "burst=9" in out
    (entry,) = json.loads(cli("audit", "list", "--object-id", made["id"], "--limit", "1", "--json")[1])[
        "entries"
    ]
    assert entry["action"] == "revoke_key"
    assert cli("--api-key", made["api_key"], "endpoints", "list")[0] == 4


def test_a_batch_job_prints_a_result_for_each_line(cli, tmp_path):
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text('{"name": "a"}\n\n{"name": "b", "fail": true}\n{"name": "c"}\n')
    code, out, err = cli("batch-jobs", "run", "greet", "--inputs", str(inputs), *RESOURCES)
    assert (code, out.splitlines()) == (1, ['"hällo a"', "null", '"hällo c"'])
    assert err == "error: 1 of 3 inputs failed; the first is number 2: ValueError: no greeting\n"


def test_a_batch_job_whose_inputs_all_fail_says_why_and_exits_1_also_where_it_is_read_later(cli, tmp_path):
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text('{"name": "a", "fail": true}\n')
    code, out, err = cli("batch-jobs", "run", "greet", "--inputs", str(inputs), *RESOURCES)
    said = "error: 1 of 1 inputs failed; the first is number 1: ValueError: no greeting\n"
    assert (code, out, err) == (1, "null\n", said)
    job_id = json.loads(cli("batch-jobs", "list", "--json")[1])[0]["job_id"]
    assert cli("batch-jobs", "results", job_id) == (1, "null\n", said)


def test_a_batch_job_is_begun_looked_at_and_read_later(cli, tmp_path):
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text('{"name": "a"}\n')
    code, out, _ = cli("batch-jobs", "run", "greet", "--inputs", str(inputs), *RESOURCES, "--no-wait")
    job_id = out.strip()
    assert code == 0
    code, out, _ = cli("batch-jobs", "get", job_id, "--wait", "--json")
    assert (code, json.loads(out)["status"]) == (0, "SUCCESS")
    code, out, _ = cli("batch-jobs", "results", job_id, "--json")
    assert json.loads(out)["result"] == "hällo a"
    assert job_id in cli("batch-jobs", "list")[1]
    assert "SUCCESS" in cli("batch-jobs", "get", job_id)[1]
    assert cli("batch-jobs", "cancel", job_id)[1] == "it had ended\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give exactly one of --inputs and --urls"),
        ('{"name": "a"}\nnope\n', "line 2 of the inputs is not JSON"),
        ('{"name": NaN}\n', "NaN is not a JSON number"),
        ("[1]\n", "line 1 of the inputs is a JSON array; an object is needed"),
    ],
)
def test_a_file_of_inputs_that_can_not_be_used_says_why(cli, tmp_path, text, said):
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text(text)
    code, out, err = cli("batch-jobs", "run", "greet", "--inputs", str(inputs))
    assert (code, out) == (2, "")
    assert said in err


def test_a_batch_job_that_is_not_there_exits_3(cli):
    assert cli("batch-jobs", "get", "job_nothing")[0] == 3
    assert cli("batch-jobs", "results", "job_nothing")[0] == 3


def test_an_endpoint_is_restarted(cli, client):
    before = client.get_model_endpoint("greet").model_endpoint.last_updated_at
    assert cli("endpoints", "restart", "greet") == (
        0,
        "",
        "the workers of endpoint greet are being replaced\n",
    )
    after = client.get_model_endpoint("greet")
    assert after.model_endpoint.last_updated_at > before
    after.wait_until_ready(60)
    assert cli("endpoints", "restart", "nothing")[0] == 3


def test_pickled_results_are_named_and_not_unpickled(cli, client):
    job = client.batch_async_request(
        model_bundle="greet", inputs=[{"name": "a"}], serialization_format="PICKLE", cpus=0.1, memory="64Mi"
    )
    client.wait_for_batch_job(job["job_id"], timeout=30)
    code, out, err = cli("batch-jobs", "results", job["job_id"])
    assert (code, err) == (0, "")
    assert "/v1/artifacts/batch-results/" in out


def test_a_canary_from_its_start_to_its_promotion(cli, client):
    endpoint = client.deploy(lambda: "old", name="cli-canary", **SMALL)
    bundle = client.create_model_bundle_from_callable_v2(
        model_bundle_name="cli-newer",
        load_model_fn=lambda: None,
        load_predict_fn=lambda _: lambda: "new",
    )
    code, out, _ = cli("endpoints", "canary", "cli-canary", "--bundle", "cli-newer", "--percent", "0")
    assert code == 0
    assert f"cli-newer ({bundle.model_bundle_id}), 0 %, SERVING" in out
    code, out, _ = cli("endpoints", "canary", "cli-canary", "--percent", "100")
    assert "100 %, SERVING" in out
    assert endpoint.predict(EndpointRequest(args={})).value == "new"
    out = cli("endpoints", "get", "cli-canary")[1]
    assert "canary 1 workers, 1 requests, 0 failed, in the worker p50 " in out
    assert "endpoint 1 workers, 0 requests, 0 failed\n" in out
    code, out, _ = cli("endpoints", "promote", "cli-canary")
    assert code == 0
    assert f"bundle      cli-newer ({bundle.model_bundle_id})" in out


def test_a_canary_that_is_rolled_back(cli, client):
    client.deploy(lambda: "old", name="cli-back", **SMALL)
    bundle = client.get_model_endpoint("greet").model_endpoint.bundle_id
    assert cli("endpoints", "canary", "cli-back", "--bundle", bundle, "--no-wait")[0] == 0
    code, out, _ = cli("endpoints", "rollback", "cli-back")
    assert code == 0
    assert "10 %, ROLLED_BACK: it was rolled back by hand" in out
    code, _, err = cli("endpoints", "rollback", "cli-back")
    assert code != 0
    assert "has no canary: the last one is ROLLED_BACK" in err


def test_a_canary_needs_a_bundle_or_a_share(cli):
    code, _, err = cli("endpoints", "canary", "greet")
    assert code == 2
    assert "give --bundle to start a canary" in err


def test_what_is_served_instead_of_what_is_wanted_is_shown(cli, client):
    rule = {"rollback_after_failures": 1, "probation_requests": 5}
    endpoint = client.deploy(lambda: "old", name="cli-serving", **rule, **SMALL)
    old = endpoint.model_endpoint.bundle_id
    client.deploy(lambda: 1 / 0, name="cli-serving", **rule, **SMALL)
    endpoint.predict(EndpointRequest(args={}))
    eventually(lambda: endpoint.status() == "UPDATE_FAILED")
    _, out, _ = cli("endpoints", "get", "cli-serving")
    assert f"serving     cli-serving ({old})" in out
    assert "ZeroDivisionError: division by zero" in out
