"""The client against a real server with real workers."""

import asyncio
import os
import signal
import threading
import time

import pytest
from pydantic import BaseModel
from server_driver import eventually

import openlaunch
from openlaunch import EndpointRequest, aio
from openlaunch.errors import (
    ConfigurationError,
    EndpointFailed,
    NotFound,
    PredictionFailed,
    TaskCancelled,
    Unprocessable,
    WaitTimeout,
)
from openlaunch.testing import LocalServer, local


@pytest.fixture(scope="module")
def client():
    with local() as client:
        yield client


def double(x):
    if x == "raise":
        raise ValueError("x is no number")
    return 2 * x


def slowly(seconds, x=0):
    time.sleep(seconds)
    return x


def count(n):
    for i in range(n):
        if i == 3:
            raise ValueError("three is too many")
        yield {"i": i}


@pytest.fixture(scope="module")
def sync_endpoint(client):
    return client.deploy(double, name="double", cpus=1, memory="1Gi")


@pytest.fixture(scope="module")
def async_endpoint(client):
    return client.deploy(
        slowly, name="slowly", endpoint_type="async", per_worker=4, cpus=1, memory="1Gi", on_status=print
    )


@pytest.fixture(scope="module")
def stream_endpoint(client):
    return client.deploy(count, name="count", cpus=1, memory="1Gi")


def args(**values):
    return EndpointRequest(args=values)


def test_builds_of_private_servers_share_a_cache(tmp_path, monkeypatch):
    for name in ("OPENLAUNCH_ISOLATION", "UV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with local() as client:
        client.deploy(double, name="double", cpus=0.1, memory="64Mi")
    (cache,) = (tmp_path / "openlaunch" / "uv").iterdir()
    assert cache.name.startswith("owner-")


def test_workers_of_a_private_server_see_the_programs_files_and_have_the_declared_memory(
    tmp_path, monkeypatch
):
    for name in ("OPENLAUNCH_ISOLATION", "OPENLAUNCH_SHARED_FOLDERS"):
        monkeypatch.delenv(name)
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    (own / "weights").write_text("3")
    (own / "weights").chmod(0o600)

    def load():
        return int((own / "weights").read_text())

    def predict(factor, x):
        import resource
        import sys

        (own / "ran").write_text(str(x))
        return factor * x, resource.getrlimit(resource.RLIMIT_DATA)[0], sys.argv[1:]

    with local() as client:
        endpoint = client.deploy(predict, name="own-files", load_model_fn=load, cpus=0.1, memory="64Mi")
        value, bound, arguments = endpoint.predict(args(x=14)).value
    assert value == 42
    assert arguments == []
    assert 64 << 20 < bound < 512 << 20
    assert (own / "ran").read_text() == "14"


def test_a_function_becomes_an_endpoint(sync_endpoint):
    assert isinstance(sync_endpoint, openlaunch.SyncEndpoint)
    assert sync_endpoint.predict(args(x=21)).value == 42
    assert sync_endpoint.status() == "READY"
    assert sync_endpoint.worker_settings().max_workers == 10


class CallsItself:
    def predict(self, x):
        return 2 * x if x else self.request()

    def request(self):
        return EndpointRequest(args={"x": 1})


def test_what_is_of_the_client_says_so_in_a_worker_when_it_is_used(client):
    endpoint = client.deploy(CallsItself().predict, name="calls-itself", cpus=0.1, memory="64Mi")
    assert endpoint.predict(args(x=2)).value == 4
    with pytest.raises(
        PredictionFailed, match="EndpointRequest is of Openlaunch's client, which this worker"
    ):
        _ = endpoint.predict(args(x=0)).value


def test_an_exception_in_the_model_is_a_failure_with_its_traceback(sync_endpoint):
    response = sync_endpoint.predict(args(x="raise"))
    assert response.status == "FAILURE"
    assert "ValueError: x is no number" in response.traceback
    with pytest.raises(PredictionFailed, match="x is no number"):
        response.raise_for_status()


def test_a_pickled_result_comes_as_the_object(client):
    def middle(x):
        return {x, x + 1}

    endpoint = client.deploy(middle, name="sets", cpus=1, memory="1Gi")
    response = endpoint.predict(EndpointRequest(args={"x": 1}, return_pickled=True))
    assert response.value == {1, 2}


def test_a_model_is_loaded_once_and_given_to_the_function(client):
    endpoint = client.deploy(
        lambda model, x: model["factor"] * x,
        name="scaled",
        load_model_fn=lambda config: {"factor": config["factor"]},
        app_config={"factor": 3},
        cpus=1,
        memory="1Gi",
    )
    assert endpoint.predict(args(x=5)).value == 15


class Input(BaseModel):
    x: int


def test_input_that_does_not_fit_the_schema_is_refused(client):
    endpoint = client.deploy(double, name="checked", request_schema=Input, cpus=1, memory="1Gi")
    assert endpoint.predict(args(x=1)).value == 2
    with pytest.raises(Unprocessable) as caught:
        endpoint.predict(args(x="one"))
    assert caught.value.errors[0]["loc"] == ["body", "args", "x"]


def test_deploying_again_changes_the_endpoint(client):
    first = client.deploy(lambda: 1, name="changing", cpus=1, memory="1Gi")
    assert first.predict(args()).value == 1
    second = client.deploy(lambda: 2, name="changing", cpus=1, memory="1Gi")
    assert second.predict(args()).value == 2
    assert second.model_endpoint.id == first.model_endpoint.id


def test_a_bundle_that_can_not_load_says_why(client):
    def broken():
        raise RuntimeError("the weights are gone")

    with pytest.raises(EndpointFailed, match="the weights are gone"):
        client.deploy(lambda model, x: x, name="broken", load_model_fn=broken, cpus=1, memory="1Gi")


def test_directories_become_an_endpoint(client, tmp_path):
    package = tmp_path / "my_module"
    package.mkdir()
    (package / "inference.py").write_text(
        "def load_model(config):\n    return 10\n\n"
        "def load_predict(config, model):\n    return lambda x: model + x + len(config or ())\n"
    )
    client.create_model_bundle_from_dirs_v2(
        model_bundle_name="from-dirs",
        base_paths=[str(package)],
        load_predict_fn_module_path="my_module.inference.load_predict",
        load_model_fn_module_path="my_module.inference.load_model",
    )
    endpoint = client.create_model_endpoint(
        endpoint_name="from-dirs", model_bundle="from-dirs", cpus=1, memory="1Gi"
    )
    assert endpoint.wait_until_ready(60).predict(args(x=1)).value == 11


def test_bundles_are_listed_and_cloned(client, sync_endpoint):
    bundle = client.get_model_bundle("double")
    assert bundle.id in {listed.id for listed in client.list_model_bundles()}
    assert client.get_model_bundle_v2(bundle.id).name == "double"
    clone = client.clone_model_bundle_with_changes(bundle, {"a": None})
    assert (clone.name, clone.app_config) == ("double", {"a": None})
    assert clone.id != bundle.id


def test_items_come_one_by_one(stream_endpoint):
    assert isinstance(stream_endpoint, openlaunch.StreamingEndpoint)
    assert [item.value for item in stream_endpoint.predict(args(n=3))] == [{"i": 0}, {"i": 1}, {"i": 2}]


def test_a_failure_in_the_middle_of_a_stream_is_its_last_item(stream_endpoint):
    items = list(stream_endpoint.predict(args(n=9)))
    assert [item.status for item in items] == ["SUCCESS"] * 3 + ["FAILURE"]
    assert "three is too many" in items[-1].traceback


def test_a_task_is_done_soon_after_its_work(async_endpoint):
    async_endpoint.predict(args(seconds=0)).get(timeout=30)
    began = time.monotonic()
    future = async_endpoint.predict(args(seconds=0.3, x=7))
    assert future.get(timeout=30).value == 7
    assert 0.3 <= time.monotonic() - began < 2


def test_many_tasks_come_as_they_are_done(async_endpoint):
    futures = async_endpoint.predict_many([args(seconds=0, x=i) for i in range(1200)])
    values = {f.get().value for f in openlaunch.as_completed(futures, timeout=60)}
    assert values == set(range(1200))


def test_a_wait_that_is_over_leaves_the_task_alone(async_endpoint):
    future = async_endpoint.predict(args(seconds=1, x=1))
    with pytest.raises(WaitTimeout):
        future.get(timeout=0.05)
    assert future.get(timeout=30).value == 1


def test_a_running_task_can_be_cancelled(client, async_endpoint):
    future = async_endpoint.predict(args(seconds=60))
    deadline = time.monotonic() + 30
    while client.get_task(future.async_task_id).status != "STARTED":
        assert time.monotonic() < deadline
    assert future.cancel()
    with pytest.raises(TaskCancelled):
        _ = future.get(timeout=30).value
    assert not future.cancel()


def test_callbacks_are_called(async_endpoint):
    called = threading.Event()
    async_endpoint.predict(args(seconds=0.1)).add_done_callback(lambda future: called.set())
    assert called.wait(30)


def test_a_batch_works_as_it_did(async_endpoint):
    requests = [EndpointRequest(args={"seconds": 0, "x": i}, request_id=f"r{i}") for i in range(5)]
    with pytest.warns(DeprecationWarning, match="use predict_many"):
        batch = async_endpoint.predict_batch(requests)
    deadline = time.monotonic() + 30
    while not batch.is_done():
        assert time.monotonic() < deadline
    assert batch.batch_status() == {"SUCCESS": 5}
    assert batch.get_responses()["r3"].value == 3


def test_a_future_can_be_had_from_its_id(client, async_endpoint):
    task_id = async_endpoint.predict(args(seconds=0, x=3)).async_task_id
    assert client.future(task_id).get(timeout=30).value == 3
    listed = client.list_tasks("slowly", limit=5)
    assert task_id in {task.task_id for task in listed.tasks}
    assert len(listed.tasks) == 5
    assert listed.next_cursor is not None


def test_an_unknown_task_is_not_found(client):
    with pytest.raises(NotFound):
        client.future("no-such-task").get(timeout=1)


def test_logs_can_be_read(client, sync_endpoint):
    assert isinstance(client.read_endpoint_creation_logs("double"), str)
    assert isinstance(client.read_endpoint_logs(sync_endpoint, tail=1000), str)


def test_an_endpoint_is_edited_restarted_and_deleted(client):
    endpoint = client.deploy(os.getcwd, name="pid", cpus=1, memory="1Gi")
    first = endpoint.predict(args()).value
    edited = client.edit_model_endpoint(model_endpoint=endpoint, max_workers=2)
    assert edited.worker_settings().max_workers == 2
    assert client.restart_model_endpoint("pid")
    edited.wait_until_ready(60)
    assert edited.predict(args()).value != first
    assert client.delete_model_endpoint("pid")
    with pytest.raises(NotFound):
        eventually(lambda: client.get_model_endpoint("pid") is None)


def test_keys_are_made_and_revoked(client):
    key = client.create_api_key("someone")
    with openlaunch.LaunchClient(key.api_key, client.url) as theirs:
        assert theirs.list_model_endpoints() == []
        client.revoke_api_key(key.id)
        with pytest.raises(openlaunch.errors.Unauthorized):
            theirs.list_model_endpoints()
    assert key.id in {listed.id for listed in client.list_api_keys()}


def test_the_awaitable_client_does_the_same(client, sync_endpoint, async_endpoint, stream_endpoint):
    async def main():
        async with aio.LaunchClient(client.server.api_key, client.url) as twin:
            sync = await twin.get_model_endpoint("double")
            assert (await sync.predict(args(x=2))).value == 4
            stream = await (await twin.get_model_endpoint("count")).predict(args(n=2))
            assert [item.value async for item in stream] == [{"i": 0}, {"i": 1}]
            queued = await twin.get_model_endpoint("slowly")
            assert (await (await queued.predict(args(seconds=0, x=1)))).value == 1
            futures = await queued.predict_many([args(seconds=0, x=i) for i in range(20)])
            values = [(await future.get()).value async for future in aio.as_completed(futures, timeout=30)]
            assert sorted(values) == list(range(20))
            responses = await asyncio.gather(*(sync.predict(args(x=i)) for i in range(50)))
            assert [r.value for r in responses] == [2 * i for i in range(50)]

    asyncio.run(main())


def test_a_second_server_on_one_directory_is_refused_with_the_reason(client):
    with pytest.raises(ConfigurationError, match="exit code") as caught:
        LocalServer(client.server.data_dir)
    assert str(client.server.data_dir) in str(caught.value)


def test_a_private_server_ends_with_its_client():
    client = local()
    data_dir, pid = client.server.data_dir, client.server.pid
    client.close()
    assert not data_dir.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    client.close()


def test_a_private_server_with_a_temporary_folder_waits_for_nothing_that_runs():
    server = LocalServer(settings={"drain_seconds": "3600"})
    with server, openlaunch.LaunchClient(server.api_key, server.url) as client:
        endpoint = client.deploy(slowly, name="slowly", endpoint_type="async", cpus=0.1, memory="64Mi")
        task_id = endpoint.predict(args(seconds=3600)).async_task_id
        eventually(lambda: client.get_task(task_id).status == "STARTED")
    assert server._process.returncode == 0


@pytest.mark.slow
def test_tasks_and_waits_outlast_a_restart_of_the_server(tmp_path):
    with local(tmp_path) as client:
        client.deploy(slowly, name="slowly", endpoint_type="async", cpus=1, memory="1Gi")

        task_id = client.get_model_endpoint("slowly").predict(args(seconds=0.5, x=9)).async_task_id
        os.kill(client.server.pid, signal.SIGTERM)

    with local(tmp_path) as client:
        assert client.future(task_id).get(timeout=60).value == 9
