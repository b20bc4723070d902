"""A batch of requests to a model, whose server and engine are killed while it runs: each line has one answer."""

import json
import sys
import time

import httpx2
import pytest
from chaos_server import ChaosServer, command_line, descendants, kill
from openai_driver import ROUTES, mock_engine
from server_driver import eventually

from openlaunch import LaunchClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in Linux's /proc")

LINES = {False: 3000, True: 10_000}


def line(number):
    body = {"model": "chat", "max_tokens": 1 + number % 5}
    return json.dumps({"custom_id": str(number), "method": "POST", "url": ROUTES[0], "body": body})


def engines(server):
    """Return the processes of the engines themselves, which nothing is below."""
    found = [pid for pid in descendants(server.pid) if b"mock_engine/mock_engine.py" in command_line(pid)]
    return [pid for pid in found if not descendants(pid)]


def counts(raw, batch):
    return raw.get(f"/v1/batches/{batch}").json()["request_counts"]


def done(server, raw, batch, least):
    def there():
        try:
            found = counts(raw, batch)
        except (httpx2.HTTPError, KeyError):
            return False
        return found["completed"] >= least

    eventually(there, 300)


@pytest.mark.timeout(600)
def test_each_line_is_in_the_output_once_though_server_and_engine_are_killed(
    tmp_path, long_form, chance, figure
):
    count = LINES[long_form]
    with ChaosServer(tmp_path / "data", scale_down_seconds=600) as server:
        with LaunchClient(server.api_key, server.url) as client:
            mock_engine(client, "chat", max_workers=2, env={"ANSWER_MS": "20"}).wait_until_ready(120)
        auth = (server.api_key, "")
        with httpx2.Client(base_url=server.url, auth=auth, timeout=60) as raw:
            lines = "\n".join(map(line, range(count))).encode()
            files = {"file": ("lines.jsonl", lines)}
            file = raw.post("/v1/files", files=files, data={"purpose": "batch"}).json()["id"]
            given = {"input_file_id": file, "endpoint": ROUTES[0], "completion_window": "1h"}
            batch = raw.post("/v1/batches", json=given).json()["id"]
            began = time.monotonic()
            for part in range(1, 6):
                done(server, raw, batch, part * count // 7 + chance.randrange(count // 20))
                if part % 2:
                    server.kill_everything()
                    server.start()
                    server.wait_until_up()
                else:
                    kill(eventually(lambda: engines(server))[0])
            ended = eventually(lambda: completed(raw, batch), 300)
            took = time.monotonic() - began
            assert ended["request_counts"] == {"total": count, "completed": count, "failed": 0}
            output = raw.get(f"/v1/files/{ended['output_file_id']}/content").text.splitlines()
    answers = [json.loads(each) for each in output]
    assert sorted(int(each["custom_id"]) for each in answers) == list(range(count))
    for each in answers:
        tokens = each["response"]["body"]["usage"]["completion_tokens"]
        assert tokens == 1 + int(each["custom_id"]) % 5
    figure(f"{count} lines with 3 servers and 2 engines killed: {took:.1f} s, {count / took:.0f} lines/s")


def completed(raw, batch):
    found = raw.get(f"/v1/batches/{batch}").json()
    return found if found.get("status") == "completed" else None
