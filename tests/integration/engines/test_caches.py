"""The caches of owners: what workers find there, who sees it, what is prefetched, and what goes."""

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from azure_server import ACCOUNT, CONTAINER
from http_service import http_service
from hub_driver import COMMIT, WEIGHTS, Hub
from obstore.store import AzureStore
from server_driver import DEADLINE, SMALL, args, http, running

from openlaunch import LaunchClient
from openlaunch.errors import EndpointFailed, Unprocessable

ONE = {**SMALL, "max_workers": 1}


@pytest.fixture
def hub():
    kind = type("OwnHub", (Hub,), {"seen": [], "files": dict(Hub.files)})
    with http_service(kind) as service:
        kind.url = f"http://127.0.0.1:{service.server_port}"
        yield kind


def look(path):
    """In a worker: what is below the cache."""
    cache = Path(os.environ["OPENLAUNCH_CACHE"])
    place = cache / path
    found = sorted(str(each.relative_to(place)) for each in place.rglob("*")) if place.is_dir() else None
    return {"files": found, "size": place.stat().st_size if place.exists() else None}


def test_workers_of_one_owner_share_a_cache_that_nobody_else_sees(client):
    def remember(text=None):
        names = ("OPENLAUNCH_CACHE", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")
        cache = Path(os.environ["OPENLAUNCH_CACHE"])
        if text is not None:
            (cache / "note").write_text(text)
        others = [str(each) for each in cache.parent.iterdir()]
        return {
            "inside": all(Path(os.environ[name]).is_relative_to(cache) for name in names),
            "text": (cache / "note").read_text() if (cache / "note").exists() else None,
            "others": [each for each in others if each != str(cache)],
        }

    first = client.deploy(remember, name="cache-first", **ONE)
    assert first.predict(args(text="mine")).value == {"inside": True, "text": "mine", "others": []}
    second = client.deploy(remember, name="cache-second", **ONE)
    assert second.predict(args()).value["text"] == "mine"
    with LaunchClient(client.create_api_key("cache-stranger").api_key, client.url) as other:
        found = other.deploy(remember, name="cache-third", **ONE).predict(args()).value
    assert (found["text"], found["others"]) == (None, [])


def test_what_an_endpoint_prefetches_is_there_before_its_worker(client, hub):
    endpoint = client.deploy(
        look,
        name="prefetches",
        prefetch=["hf://org/model@v1", f"{hub.url}/plain/weights.bin"],
        env={"HF_ENDPOINT": hub.url},
        **ONE,
    )
    assert endpoint.predict(args(path="hf/org/model@v1")).value["files"] == [
        "config.json",
        "sub",
        "sub/model.safetensors",
    ]
    snapshot = f"huggingface/hub/models--org--model/snapshots/{COMMIT}/sub/model.safetensors"
    assert endpoint.predict(args(path=snapshot)).value["size"] == len(WEIGHTS)
    place = f"http/{hub.url.removeprefix('http://').replace(':', '_')}/plain/weights.bin"
    assert endpoint.predict(args(path=place)).value["size"] == len(WEIGHTS)
    assert any(event.kind == "prefetching" for event in client.list_endpoint_events(endpoint).events)
    before = len(hub.seen)
    client.deploy(look, name="prefetches", env={"HF_ENDPOINT": hub.url, "MORE": "1"}, **ONE)
    assert [path for path, _ in hub.seen[before:] if "/resolve/" in path or "plain" in path] == []


def test_a_download_that_is_cut_off_is_resumed(client, hub):
    hub.cut_at = 400_000
    endpoint = client.deploy(look, name="resumes", prefetch=[f"{hub.url}/plain/weights.bin"], **ONE)
    place = f"http/{hub.url.removeprefix('http://').replace(':', '_')}/plain/weights.bin"
    assert endpoint.predict(args(path=place)).value["size"] == len(WEIGHTS)
    assert [asked for _, asked in hub.seen] == [None, "bytes=400000-", "bytes=800000-"]


def test_how_far_a_download_is_shows_in_the_reason(client, hub):
    hub.gate = threading.Event()
    endpoint = client.deploy(
        look, name="shows", prefetch=["hf://org/model"], env={"HF_ENDPOINT": hub.url}, wait=False, **ONE
    )
    end = time.monotonic() + DEADLINE
    while "downloading hf://org/model" not in (reason := endpoint.model_endpoint.status_reason or ""):
        assert time.monotonic() < end, reason
        endpoint = client.get_model_endpoint("shows")
    assert "of 1 MiB" in reason
    hub.gate.set()
    client.get_model_endpoint("shows").wait_until_ready(DEADLINE)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hf://org/none", "404"),
        ("hf://org/model/nothing.gguf", "has no nothing.gguf"),
        ("{hub}/plain/nothing", "404"),
    ],
)
def test_what_cannot_be_fetched_says_why(client, hub, url, said):
    with pytest.raises(EndpointFailed, match=said):
        client.deploy(
            look, name="fails", prefetch=[url.format(hub=hub.url)], env={"HF_ENDPOINT": hub.url}, **ONE
        )


def test_a_token_opens_what_is_private(client, hub):
    hub.token = "of-the-hub"
    client.set_secret("hf-token", "of-the-hub")
    given = {"prefetch": ["hf://org/model/config.json"], "env": {"HF_ENDPOINT": hub.url}}
    endpoint = client.deploy(look, name="private", secrets=["hf-token"], **given, **ONE)
    assert endpoint.predict(args(path="hf/org/model@main/config.json")).value["size"] == 13


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/file",
        "https://host",
        "hf://model",
        "https://host/a/../../b",
        "https://u:p@host/a",
        "file:///etc",
    ],
)
def test_a_url_that_cannot_be_prefetched_is_refused_at_once(client, url):
    with pytest.raises(Unprocessable, match="prefetch"):
        client.deploy(look, name="refused", prefetch=[url], **ONE)


@pytest.mark.slow
def test_a_cache_over_its_bound_loses_what_was_used_least_recently(tmp_path, hub):
    with running(tmp_path / "data", cache_bytes=1_500_000) as client:

        def fill(name):
            (Path(os.environ["OPENLAUNCH_CACHE"]) / name).write_bytes(b"x" * 1_000_000)
            return True

        client.deploy(fill, name="fills", **ONE).predict(args(name="old"))
        client.deploy(look, name="needs", prefetch=[f"{hub.url}/plain/weights.bin"], **ONE)
        kinds = {kind.kind: kind for kind in client.get_storage().kinds}
        assert 1_000_000 <= kinds["caches"].bytes <= 1_500_000
        hub.files["sub/model.safetensors"] = WEIGHTS * 2
        with pytest.raises(EndpointFailed, match="the whole cache of an owner may have 1500000"):
            client.deploy(
                look, name="too-large", prefetch=["hf://org/model"], env={"HF_ENDPOINT": hub.url}, **ONE
            )


def bucket_of(kind, request):
    """A bucket's objects, and the environment of who may read them, with the name of the secret in it."""
    if kind == "az":
        azure = request.getfixturevalue("azure")
        key = {"account_name": ACCOUNT, "account_key": azure.key, "endpoint": azure.endpoint}
        store = AzureStore(CONTAINER, **key, client_options={"allow_http": True})
        return store, {**azure.environ}, "azure-storage-account-key"
    s3 = request.getfixturevalue("s3")
    environ = {**s3.environ}
    if kind == "gs":
        environ["GOOGLE_STORAGE_ENDPOINT"] = environ.pop("AWS_ENDPOINT_URL")
    return s3.store(), environ, "aws-secret-access-key"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "gs", "az"])
def test_objects_of_a_bucket_are_prefetched_with_the_owners_keys(client, request, kind):
    store, environ, secret = bucket_of(kind, request)
    for key in ("weights/one.bin", "weights/sub/two three.bin", "alone.bin"):
        store.put(key, b"x" * 2000)
    client.set_secret(secret, environ.pop(secret.upper().replace("-", "_")))
    endpoint = client.deploy(
        look,
        name=f"bucket-{kind}",
        prefetch=[f"{kind}://artifacts/weights/", f"{kind}://artifacts/alone.bin"],
        env=environ,
        secrets=[secret],
        **ONE,
    )
    assert endpoint.predict(args(path=f"{kind}/artifacts/weights")).value["files"] == [
        "one.bin",
        "sub",
        "sub/two three.bin",
    ]
    assert endpoint.predict(args(path=f"{kind}/artifacts/alone.bin")).value["size"] == 2000


def test_the_signature_of_a_url_is_in_no_command_line_and_is_not_shown(client, hub):
    secret = "the-signature-of-nobody-else"
    url = f"{hub.url}/plain/weights.bin?X-Amz-Signature={secret}"
    hub.gate = threading.Event()
    target = client.deploy(look, name="signed", prefetch=[url], wait=False, **ONE)
    end = time.monotonic() + DEADLINE
    while "downloading" not in (client.get_model_endpoint("signed").model_endpoint.status_reason or ""):
        assert time.monotonic() < end
    processes = list(Path("/proc").glob("[0-9]*/cmdline"))
    lines = []
    for each in processes:
        with suppress(OSError):
            lines.append(each.read_bytes())
    assert any(b"openlaunch_worker.prefetch" in line for line in lines)
    assert not any(secret.encode() in line for line in lines)
    hub.gate.set()
    target = client.get_model_endpoint("signed").wait_until_ready(DEADLINE)
    place = f"http/{hub.url.removeprefix('http://').replace(':', '_')}/plain/weights.bin"
    assert target.predict(args(path=place)).value["size"] == len(WEIGHTS)
    with http(client) as raw:
        about = f"/v1/model-endpoints/{target.model_endpoint.id}"
        shown = [
            raw.get(path).text
            for path in (
                *(about, f"{about}/events", f"{about}/logs", f"{about}/why", "/v1/model-endpoints"),
                *("/v1/hosted_inference/endpoints/creation_logs/signed", "/v1/audit-log"),
            )
        ]
    assert not any(secret in each for each in shown)
    assert "weights.bin?hidden-" in shown[0]
    again = client.deploy(look, name="signed", prefetch=[url], **ONE)
    assert again.changes == []
    marker = f".openlaunch-ready/{place.replace('/', '%2F')}"
    assert target.predict(args(path=marker)).value["size"] < len(url)


def test_a_batch_job_prefetches(client, hub):
    made = client.create_model_bundle_from_callable_v2(
        model_bundle_name="cache-job", load_model_fn=lambda: None, load_predict_fn=lambda _: look
    )
    place = f"http/{hub.url.removeprefix('http://').replace(':', '_')}/plain/weights.bin"
    job = client.batch_async_request(
        model_bundle=made,
        inputs=[{"path": place}],
        prefetch=[f"{hub.url}/plain/weights.bin"],
        **SMALL,
    )
    client.wait_for_batch_job(job["job_id"], DEADLINE)
    (result,) = client.read_batch_results(job["job_id"])
    assert f'"size": {len(WEIGHTS)}' in json.dumps(result)
