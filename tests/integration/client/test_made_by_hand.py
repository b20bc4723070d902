"""Endpoints that a program makes by name, without asking the server for them first."""

import pickle
import re

import pytest
from canned_server import Server, endpoint_document, reply, success

import openlaunch
from openlaunch import EndpointRequest, ModelBundle, ModelEndpoint, aio
from openlaunch.errors import BadRequest
from openlaunch.wire.sse import END_EVENT


@pytest.fixture
def server():
    server = Server()
    server.routes["POST /v1/sync-tasks"] = reply(success(1))
    server.routes["POST /v1/async-tasks"] = reply({"task_id": "t1"})
    server.routes["POST /v1/async-tasks/bulk"] = reply({"task_ids": ["t2"]})
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [END_EVENT])
    yield server
    server.close()


def made(both, kind, name="double"):
    module = openlaunch if both.loop is None else aio
    return getattr(module, f"{kind.capitalize()}Endpoint")(ModelEndpoint(name=name), both.client)


def serve(server, kind):
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document(kind)]})
    server.routes["GET /v1/model-endpoints/end_1"] = reply(endpoint_document(kind))


@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
def test_a_name_is_enough_and_is_looked_up_once(both, server, kind):
    serve(server, kind)
    endpoint = made(both, kind)
    assert "double" in repr(endpoint)
    for _ in range(2):
        both.predict(endpoint)
    asked = [request.path for request in server.requests]
    assert [path for path in asked if path.startswith("/v1/model-endpoints")] == [
        "/v1/model-endpoints?name=double"
    ]
    assert asked[-1] == f"/v1/{kind}-tasks?model_endpoint_id=end_1"


def test_many_tasks_are_submitted_by_name(both, server):
    serve(server, "async")
    (future,) = both.call(made(both, "async").predict_many, [EndpointRequest(args={})])
    with pytest.warns(DeprecationWarning, match="predict_many"):
        batch = both.call(made(both, "async").predict_batch, [EndpointRequest(args={}, request_id="r")])
    assert (future.async_task_id, batch.request_ids) == ("t2", {"r": "t2"})


def test_an_endpoint_of_another_type_is_named(both, server):
    serve(server, "async")
    for kind in ("sync", "streaming"):
        with pytest.raises(BadRequest, match=f"'double' is async, not {kind}: use AsyncEndpoint"):
            both.predict(made(both, kind))


def test_its_state_is_fetched_by_name(both, server):
    serve(server, "sync")
    assert both.call(made(both, "sync").status) == "READY"
    assert both.call(made(both, "sync").wait_until_ready).model_endpoint.id == "end_1"


def test_operations_take_it(both, server):
    serve(server, "sync")
    server.routes["DELETE /v1/model-endpoints/end_1"] = reply({"deleted": True})
    server.routes["PUT /v1/model-endpoints/end_1"] = reply({"endpoint_creation_task_id": "x"})
    server.routes["GET /v2/model-bundles/latest"] = reply({"id": "bun_1", "name": "b"}, 404)
    endpoint = ModelEndpoint(name="double")
    edited = both.call(both.client.edit_model_endpoint, model_endpoint=endpoint, max_workers=2)
    assert edited.model_endpoint.id == "end_1"
    assert both.call(both.client.delete_model_endpoint, made(both, "sync"))
    server.routes["GET /v2/model-bundles/b"] = reply({}, 404)
    create = both.client.create_model_endpoint
    with pytest.raises(openlaunch.errors.NotFound, match="name or id 'b'"):
        both.call(create, endpoint_name="e", model_bundle=ModelBundle("b"))


def test_one_that_is_not_looked_up_can_be_written_and_pickled():
    endpoint = ModelEndpoint(name="double", endpoint_type="async")
    assert ModelEndpoint.model_validate_json(endpoint.model_dump_json()) == endpoint
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
def test_an_endpoint_is_taken_where_its_name_is(both, server, kind):
    serve(server, kind)
    server.routes["GET /v1/async-tasks"] = reply({"tasks": []})
    endpoint = both.call(both.client.get_model_endpoint, "double")
    assert both.call(both.client.get_model_endpoint, endpoint).model_endpoint.id == "end_1"
    both.call(both.client.list_tasks, endpoint)
    assert "model_endpoint_id=end_1" in server.requests[-1].path


@pytest.mark.parametrize(
    "operation", ["get_model_endpoint", "list_tasks", "delete_model_endpoint", "explain_endpoint"]
)
def test_what_is_neither_an_endpoint_nor_a_name_is_named(both, server, operation):
    with pytest.raises(TypeError, match="an endpoint or its name is needed here, not 5"):
        both.call(getattr(both.client, operation), 5)
    assert not server.requests


@pytest.mark.parametrize("wrong", [None, 3, "double"])
@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
@pytest.mark.parametrize("module", [openlaunch, aio])
def test_what_is_no_model_endpoint_is_named(module, kind, wrong):
    with pytest.raises(TypeError, match=f"model_endpoint is {wrong!r}, a ModelEndpoint is needed"):
        getattr(module, f"{kind.capitalize()}Endpoint")(wrong, None)


@pytest.mark.parametrize("kind", ["sync", "async", "streaming"])
def test_what_is_no_client_is_named(both, kind):
    """The awaitable client does not fit endpoints that block, nor the other way round."""
    for module, name in ((openlaunch, "openlaunch.LaunchClient"), (aio, "openlaunch.aio.LaunchClient")):
        make = getattr(module, f"{kind.capitalize()}Endpoint")
        others = [client for client in (both.client,) if not isinstance(client, module.LaunchClient)]
        for wrong in (None, 3, "http://127.0.0.1:8000", *others):
            with pytest.raises(TypeError, match=f"client is .*, an {name} is needed"):
                make(ModelEndpoint(name="double"), wrong)


def test_a_model_endpoint_says_what_is_wrong_with_its_fields():
    assert ModelEndpoint("double").name == "double"
    with pytest.raises(TypeError, match="ModelEndpoint: name is 3: text is needed"):
        ModelEndpoint(name=3)


@pytest.mark.parametrize("fields", [{"name": 3}, {"name": None}, {"name": "b", "id": 3}])
def test_a_model_bundle_says_what_is_wrong_with_its_fields(fields):
    with pytest.raises(TypeError, match=r"ModelBundle: (name|id) is (3|None): text is needed"):
        ModelBundle(**fields)


@pytest.mark.parametrize("wrong", [None, 3, ["a"]])
def test_what_is_no_bundle_is_named(both, server, wrong):
    needed = rf"a model bundle, its name or its id is needed here, not {re.escape(repr(wrong))}"
    with pytest.raises(TypeError, match=needed):
        both.call(
            both.client.batch_async_request, model_bundle=wrong, inputs=[{}], serialization_format="JSON"
        )
    assert not server.requests


@pytest.mark.parametrize(("wrong", "error"), [(None, TypeError), (3, TypeError), ("", ValueError)])
def test_what_is_no_id_is_named(both, server, wrong, error):
    """An empty one would be the path of a whole list."""
    with pytest.raises(error, match="an id or a name is needed here"):
        both.call(both.client.get_task, wrong)
    assert not server.requests


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.deploy(print, name="x", timeout="1"), "timeout is '1': a number of seconds"),
        (lambda client: client.wait_for_batch_job("job", timeout="1"), "timeout is '1': a number of seconds"),
        (lambda client: client.deploy(print, name="x", app_config=[1]), r"app_config is \[1\]: a dict"),
        (
            lambda client: client.batch_async_request(labels={}, model_bundle="b", urls="http://x"),
            "urls is 'http",
        ),
        (
            lambda client: client.batch_async_request(labels={}, model_bundle="b", inputs=[1]),
            "inputs has 1: ",
        ),
        (lambda client: type(client)("key", "http://127.0.0.1:1", ca_file=3), "ca_file is 3: the path"),
        (
            lambda client: type(client)("key", "http://127.0.0.1:1", owner=3),
            "owner is 3: the name of an owner",
        ),
        (
            lambda client: client.edit_model_endpoint("f1", 5),
            "2 values came without a name, and none can be given so; give others by name: model_endpoint=…, model_b",
        ),
        (
            lambda client: client.deploy(print, "f1"),
            "2 values came without a name, and fn can be given so; give others by name: name=…, endpoint_type=…",
        ),
        (
            lambda client: type(client)(url="http://127.0.0.1:1"),
            r"^LaunchClient\(\) got an unexpected .* 'url'",
        ),
    ],
)
def test_a_wrong_type_is_named_before_anything_is_changed(both, server, call, said):
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": []})
    with pytest.raises((TypeError, openlaunch.OpenlaunchError), match=said):
        both.call(call, both.client)
    assert not any(request.command == "POST" for request in server.requests)
