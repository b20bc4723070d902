"""Text that UTF-8 can't hold, such as the names of some files: whatever way it takes, it ends in an answer."""

import pytest
from pydantic import BaseModel
from server_driver import DEADLINE, SMALL, args, running

from openlaunch.errors import EndpointFailed


class Out(BaseModel):
    """The response schema."""

    text: str


def model(kind="file"):
    odd = "caf\udce9"
    if kind == "value":
        return {"text": odd}
    if kind == "name":
        raise type("Odd", (Exception,), {"__qualname__": odd})(odd)
    error = FileNotFoundError(f"no such file: {odd}")
    error.add_note(odd)
    raise ExceptionGroup(odd, [error]) if kind == "group" else error


def stream():
    yield "caf\udce9"
    raise ValueError("caf\udce9")


def load():
    odd = "caf\udce9"
    raise type("Odd", (Exception,), {"__qualname__": odd})(odd)


def predict(model):
    return model


@pytest.fixture(scope="module")
def client():
    with running(check_responses="true") as client:
        yield client


@pytest.fixture(scope="module")
def queue(client):
    return client.deploy(model, name="queue", endpoint_type="async", response_schema=Out, **SMALL)


def test_a_task_fails_with_its_text_escaped(client, queue):
    futures = queue.predict_many([args(kind=kind) for kind in ("file", "name", "group", "value")])
    responses = [future.get(DEADLINE) for future in futures]
    assert [response.status for response in responses] == ["FAILURE"] * 4
    for response in responses[:3]:
        assert "caf\\udce9" in response.traceback
    assert "surrogate" in responses[3].traceback, "it can't be held against the schema"
    assert "broke the protocol" not in str(client.list_endpoint_events("queue").events)


def test_a_sync_request_and_a_stream_fail_too(client):
    endpoint = client.deploy(model, name="sync", response_schema=Out, **SMALL)
    assert "caf\\udce9" in endpoint.predict(args(kind="file")).traceback
    assert endpoint.predict(args(kind="value")).status == "FAILURE"
    items = list(client.deploy(stream, name="stream", endpoint_type="streaming", **SMALL).predict(args()))
    assert items[0].value == "caf\udce9", "a value that nothing checks comes as it is"
    assert "caf\\udce9" in items[1].traceback


def test_a_batch_job_has_it_among_its_results(client, queue):
    job = client.batch_async_request(model_bundle="queue", inputs=[{}], memory="64Mi", cpus=0.1)
    client.wait_for_batch_job(job["job_id"], timeout=DEADLINE)
    (result,) = client.read_batch_results(job["job_id"])
    assert "caf\\udce9" in result["traceback"]


def test_a_bundle_that_can_not_be_loaded_says_why(client):
    with pytest.raises(EndpointFailed, match=r"caf\\udce9"):
        client.deploy(predict, load_model_fn=load, name="load", **SMALL)
