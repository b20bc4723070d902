"""Marked secrets go through all that the server does, and are found in no log, no audit entry and no repr."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import httpx2
import pytest
from server_driver import SMALL, args, eventually

from openlaunch import EndpointRequest, LaunchClient
from openlaunch.client.config import Address
from openlaunch.client.effects import Request
from openlaunch.client.transport import Target
from openlaunch.errors import OpenlaunchError
from openlaunch.store import bundles, endpoints, image_jobs, keys, triggers
from openlaunch.store.sqlite import SqliteStore

KEY = "s3cret-admin-key-0123456789"
SECRETS = {
    name: f"s3cret-{name}-0123456789"
    for name in (
        *(
            "password",
            "callback-url",
            "callback-user",
            "command-env",
            "image-env",
            "worker-env",
            "job-config",
        ),
        *("trigger-config", "app-config", "payload", "file", "input-url", "wrong-key", "header"),
        *("metadata", "label", "default-password", "bad-json", "wrong-field", "raised", "docker-env"),
    )
}
FRAMEWORK = {"framework_type": "custom_base_image", "image_repository": "r", "image_tag": "t"}


class ModelError(Exception):
    pass


def work(text, fail=False):
    if fail:
        raise ModelError(text)
    return len(text)


def stream(text, fail=False):
    yield len(text)
    if fail:
        raise ModelError(text)


@contextmanager
def verbose_server(data_dir, log):
    """A server that logs all it can."""
    environ = {**os.environ, "OPENLAUNCH_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "openlaunch.cli", "serve", "-v", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)], stdout=subprocess.PIPE, stderr=file, env=environ
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().split()[1]
        finally:
            process.terminate()
            process.stdout.close()
            process.wait(60)


class Shown:
    """Everything that is shown to somebody who is not to know."""

    def __init__(self):
        self.texts = []

    def add(self, *things):
        for thing in things:
            self.texts += [repr(thing), str(thing)]

    def leaks(self):
        text = "\n".join(self.texts)
        return {name for name, value in {**SECRETS, "key": KEY}.items() if value in text}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """What was shown in the clients' objects, the logs by their files, and the data directory of the ended server."""
    folder = tmp_path_factory.mktemp("secrets")
    data, log, shown = folder / "data", folder / "server.log", Shown()
    with verbose_server(data, log) as url:
        with LaunchClient(KEY, url, max_retries=0) as client:
            shown.add(client, Target.of(Address(url, KEY, "test"), 1.0))
            predictions(client, shown)
            objects(client, shown)
        with httpx2.Client(base_url=url, auth=(KEY, ""), timeout=60) as raw:
            raw_requests(raw, shown)
            audit = raw.get("/v1/audit-log", params={"limit": 1000}).text
    logs = {"server": log.read_text(), "audit": audit}
    logs |= {str(path): path.read_text() for path in data.rglob("*.log")}
    return shown, logs, data


def predictions(client, shown):
    # The receiver, which is the server itself, answers 405: that is one attempt of several.
    host = client.url.removeprefix("http://")
    callback = f"http://{SECRETS['callback-user']}@{host}/healthz?token={SECRETS['callback-url']}"
    for kind, function in (("sync", work), ("async", work), ("streaming", stream)):
        endpoint = client.deploy(
            function,
            name=f"secret-{kind}",
            endpoint_type=kind,
            labels={"label": SECRETS["label"]},
            default_callback_url=callback,
            default_callback_auth_kind="basic",
            default_callback_auth_username="u",
            default_callback_auth_password=SECRETS["default-password"],
            post_inference_hooks=["callback"] if kind == "async" else None,
            **SMALL,
        )
        shown.add(endpoint, endpoint.model_endpoint)
        for fail in (False, True):
            request = args(text=SECRETS["raised" if fail else "payload"], fail=fail)
            request.extra_headers["x-secret"] = SECRETS["header"]
            shown.add(request)
            if kind == "streaming":
                with endpoint.predict(request) as items:
                    shown.add(items)
                    answers = list(items)
            elif kind == "async":
                future = endpoint.predict(request)
                shown.add(future)
                answers = [future.get(30)]
            else:
                answers = [endpoint.predict(request)]
            if not fail:  # who predicts on an endpoint of their own is told what the model raised
                shown.add(*answers)
        from_url = EndpointRequest(url=f"http://127.0.0.1:1/?signature={SECRETS['input-url']}")
        shown.add(from_url)
        if kind == "sync":
            failed = endpoint.predict(from_url)
            shown.add(failed, failed.traceback)
    later = client.get_model_endpoint("secret-async")
    with_password = EndpointRequest(
        args={"text": "x"},
        callback_url=callback,
        callback_auth_kind="basic",
        callback_auth_username="u",
        callback_auth_password=SECRETS["password"],
    )
    future = later.predict(with_password)
    shown.add(with_password, future, future.get(30))
    deliveries = eventually(lambda: [d for d in client.list_deliveries(future.async_task_id) if d.attempts])
    shown.add([d.attempts for d in deliveries])


def objects(client, shown):
    command = client.create_model_bundle_from_command(
        model_bundle_name="secret-command",
        command=[sys.executable, "-c", "import sys; sys.exit(3)"],
        env={"SECRET": SECRETS["command-env"]},
    )
    bundle = client.get_model_bundle_v2(command.model_bundle_id)
    shown.add(command, bundle, bundle.flavor)
    endpoint = client.create_model_endpoint(
        endpoint_name="secret-command",
        model_bundle="secret-command",
        endpoint_type="sync",
        min_workers=1,
        max_workers=1,
        per_worker=1,
        labels={},
        **SMALL,
    )
    eventually(lambda: endpoint.refresh().model_endpoint.status == "UPDATE_FAILED")
    shown.add(endpoint, endpoint.model_endpoint.status_reason)
    made = client.create_api_key("somebody", requests_per_day=3)
    shown.add(made, *client.list_api_keys())
    assert made.api_key not in "\n".join(shown.texts)
    with pytest.raises(OpenlaunchError) as caught, LaunchClient(SECRETS["wrong-key"], client.url) as other:
        other.list_model_endpoints()
    shown.add(caught.value)
    shown.add(Request("POST", "/", SECRETS["payload"].encode(), {"authorization": KEY}))


def raw_requests(raw, shown):
    """What the client has no words for, and what is wrong: the answers name fields, not what was secret in them."""

    def post(path, document, secret=True):
        answer = raw.post(path, json=document)
        if secret:
            shown.add(answer.text)
        return answer.json()

    image = {"image_repository": "r", "image_tag": "t", "command": ["x"]}
    job = {
        "name": "secret-job",
        **image,
        "env": {"SECRET": SECRETS["docker-env"]},
        "mount_location": "/config",
    }
    made = post("/v1/docker-image-batch-job-bundles", job)["docker_image_batch_job_bundle_id"]
    post(
        "/v1/docker-image-batch-jobs",
        {
            "docker_image_batch_job_bundle_id": made,
            "job_config": {"x": SECRETS["job-config"]},
            "labels": {"l": SECRETS["label"]},
        },
    )
    post(
        "/v1/triggers",
        {
            "name": "secret",
            "cron_schedule": "0 0 1 1 *",
            "bundle_id": made,
            "default_job_config": {"x": SECRETS["trigger-config"]},
            "default_job_metadata": {},
        },
    )
    flavor = {
        "flavor": "runnable_image",
        "repository": "r",
        "tag": "t",
        "command": ["x"],
        "protocol": "http",
        "env": {"SECRET": SECRETS["image-env"]},
        "worker_env": {"SECRET": SECRETS["worker-env"]},
    }
    post("/v2/model-bundles", {"name": "secret-image", "schema_location": "", "flavor": flavor})
    upload = post("/v1/hosted_inference/model_bundle_upload", {}, secret=False)
    raw.put(upload["signedUrl"], content=SECRETS["file"].encode(), auth=None)
    flavor = {
        "flavor": "cloudpickle_artifact",
        "location": f"s3://{upload['bucket']}/{upload['key']}",
        "requirements": [],
        "framework": FRAMEWORK,
        "app_config": {"x": SECRETS["app-config"]},
        "load_predict_fn": "",
        "load_model_fn": "",
    }
    config = {"name": "secret-config", "schema_location": "", "metadata": {"note": SECRETS["metadata"]}}
    post("/v2/model-bundles", {**config, "flavor": flavor})
    raw.post("/v1/files", files={"file": ("name", SECRETS["file"].encode())})
    for path in ("/v1/keys", "/v2/model-bundles", "/v1/model-endpoints", "/v1/triggers"):
        post(path, {"name": [SECRETS["wrong-field"]], "owner": {"x": SECRETS["wrong-field"]}})
        shown.add(raw.post(path, content=f'{{"x": "{SECRETS["bad-json"]}'.encode()).text)
    wrong = {"kind": "basic", "password": SECRETS["password"]}
    endpoint = raw.get("/v1/model-endpoints", params={"name": "secret-async"}).json()["model_endpoints"][0]
    shown.add(json.dumps(endpoint["default_callback_auth"]))
    for body in ({"args": {}, "callback_url": "http://h", "callback_auth": wrong}, [SECRETS["bad-json"]]):
        answer = raw.post("/v1/async-tasks", params={"model_endpoint_id": endpoint["id"]}, json=body)
        shown.add(answer.text)


def test_no_repr_and_no_error_shows_a_secret(scene):
    shown, _, _ = scene
    assert shown.leaks() == set()


def test_no_log_has_a_secret(scene):
    _, logs, _ = scene
    assert len(logs) > 3
    for name, text in logs.items():
        # An endpoint's log is its owner's, and has the messages of their exceptions.
        allowed = {"raised"} if "/worker-" in name else set()
        found = {secret for secret, value in {**SECRETS, "key": KEY}.items() if value in text}
        assert found <= allowed, name


def test_no_record_shows_a_secret(scene):
    """What the server holds in memory, should it ever be written to a log or a traceback."""
    import asyncio

    _, _, data = scene
    shown = Shown()

    async def look():
        store = await SqliteStore.open(data / "openlaunch.db")
        try:
            for load in (
                keys.list_all,
                endpoints.list_all,
                lambda conn: bundles.get_many(conn, bundles.ids_of_owner(conn, "admin")),
                lambda conn: image_jobs.get_bundles(conn, image_jobs.bundle_ids_of_owner(conn, "admin")),
                lambda conn: image_jobs.get_many(conn, image_jobs.ids_of_owner(conn, "admin")),
                lambda conn: triggers.get_many(conn, triggers.ids_of_owner(conn, "admin")),
            ):
                found = await store.read(load)
                assert found
                shown.add(*found)
        finally:
            await store.close()

    asyncio.run(look())
    assert shown.leaks() == set()


def test_the_markers_went_where_they_belong(scene):
    """Else the tests above would find nothing whatever the server does."""
    _, _, data = scene
    stored = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    for name in (
        "command-env",
        "app-config",
        "job-config",
        "trigger-config",
        "docker-env",
        "file",
        "metadata",
    ):
        assert SECRETS[name].encode() in stored, name
    assert KEY.encode() not in re.sub(
        rb'"api_key": "[^"]+"', b"", stored
    )  # but in the owner's credentials file
