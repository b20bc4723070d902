"""Methods that the client has because Launch's has them."""

import pytest
from server_driver import SMALL, args

import openlaunch
from openlaunch import PostInferenceHooks
from openlaunch.errors import Unprocessable

TORCH = {"framework_type": "pytorch", "pytorch_image_tag": "2.0.0"}


def times(model):
    return lambda x: model * x


def load_three():
    return 3


class Tripler:
    def __call__(self, x):
        return 3 * x


@pytest.mark.parametrize(
    "functions",
    [
        {"load_predict_fn": times, "load_model_fn": load_three},
        {"load_predict_fn": times, "model": 3},
        {"predict_fn_or_cls": lambda x: 3 * x},
        {"predict_fn_or_cls": Tripler},
        {"predict_fn_or_cls": lambda x: 3 * x, "app_config": {"unused": True}},
    ],
)
def test_create_model_bundle(client, functions):
    bundle = client.create_model_bundle("first", TORCH, requirements=[], **functions)
    assert (bundle.name, bundle.env_params, bundle.packaging_type) == ("first", TORCH, "cloudpickle")
    endpoint = client.create_model_endpoint(
        endpoint_name="first", model_bundle=bundle, endpoint_type="sync", update_if_exists=True, **SMALL
    )
    assert endpoint.wait_until_ready(60).predict(args(x=7)).value == 21


@pytest.mark.parametrize(
    "functions",
    [
        {},
        {"load_predict_fn": times},
        {"load_predict_fn": times, "model": 3, "load_model_fn": load_three},
        {"predict_fn_or_cls": Tripler, "model": 3},
        {"predict_fn_or_cls": Tripler, "load_model_fn": load_three},
    ],
)
def test_a_bundle_that_is_not_clear_is_refused(client, functions):
    with pytest.raises(ValueError, match="give exactly one of predict_fn_or_cls"):
        client.create_model_bundle("unclear", TORCH, **functions)


def counting(model):
    def predict(n):
        yield from range(n)

    return predict


@pytest.fixture(params=["callable", "first client", "directories"])
def generator_bundle(request, client, tmp_path, monkeypatch):
    if request.param == "callable":
        functions = {"load_predict_fn": counting, "load_model_fn": load_three}
        made = client.create_model_bundle_from_callable_v2(model_bundle_name="counting", **functions)
        return made.model_bundle_id
    if request.param == "first client":
        return client.create_model_bundle("counting", TORCH, predict_fn_or_cls=counting(None)).id
    (tmp_path / "counter").mkdir()
    (tmp_path / "counter" / "main.py").write_text(
        "def predict(n):\n    yield from range(n)\ndef load(config):\n    pass\n"
        "def load_predict(config, model):\n    return predict\n"
    )
    monkeypatch.chdir(tmp_path)
    paths = {"load_predict_fn_module_path": "main.load_predict", "load_model_fn_module_path": "main.load"}
    made = client.create_model_bundle_from_dirs_v2(
        model_bundle_name="counting", base_paths=["counter"], **paths
    )
    return made.model_bundle_id


def test_a_generator_needs_a_streaming_endpoint(client, generator_bundle):
    request = {"endpoint_name": "counting", "model_bundle": generator_bundle, **SMALL}
    for kind in ("async", "sync"):
        with pytest.raises(Unprocessable, match="which only streaming endpoints pass on"):
            client.create_model_endpoint(endpoint_type=kind, **request)
    with pytest.raises(Unprocessable, match="which only streaming endpoints pass on"):
        client.batch_async_request(model_bundle=generator_bundle, inputs=[{"n": 1}])
    endpoint = client.create_model_endpoint(endpoint_type="streaming", update_if_exists=True, **request)
    assert [each.value for each in endpoint.wait_until_ready(60).predict(args(n=2))] == [0, 1]


def test_create_model_bundle_from_dirs(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "code.py").write_text(
        "def load(config):\n    return config['factor']\n"
        "def predict(config, model):\n    return lambda x: model * x\n"
    )
    bundle = client.create_model_bundle_from_dirs(
        model_bundle_name="folders",
        base_paths=["model"],
        requirements_path="requirements.txt",
        env_params=TORCH,
        load_predict_fn_module_path="model.code.predict",
        load_model_fn_module_path="model.code.load",
        app_config={"factor": 3},
    )
    endpoint = client.create_model_endpoint(endpoint_name="folders", model_bundle=bundle, **SMALL)
    assert endpoint.wait_until_ready(60).predict(args(x=7)).value == 21


@pytest.mark.parametrize(
    "name",
    [
        "register_upload_bundle_fn",
        "register_upload_batch_csv_fn",
        "register_bundle_location_fn",
        "register_batch_csv_location_fn",
        "register_endpoint_auth_decorator",
    ],
)
@pytest.mark.parametrize("module", [openlaunch, openlaunch.aio])
def test_what_is_registered_is_said_not_to_be_called(client, module, name):
    other = module.LaunchClient(client.server.api_key, client.server.url)
    with pytest.warns(DeprecationWarning, match="the server takes uploads itself"):
        getattr(other, name)(lambda *_: None)


def test_a_hook_may_be_named_by_the_enum(client):
    client.create_model_bundle("hooked", TORCH, predict_fn_or_cls=lambda x: x)
    endpoint = client.create_model_endpoint(
        endpoint_name="hooked",
        model_bundle="hooked",
        endpoint_type="async",
        min_workers=0,
        post_inference_hooks=[PostInferenceHooks.CALLBACK],
        default_callback_url="http://127.0.0.1:9/",
    )
    assert endpoint.model_endpoint.post_inference_hooks == ["callback"]


def test_states_can_be_read_as_launchs_dictionaries(client):
    endpoint = client.deploy(lambda x: x, name="states", max_workers=2, **SMALL)
    assert endpoint.deployment_state()["max_workers"] == 2
    state = endpoint.resource_state()
    assert {**state}["memory"] == state.get("memory") == "64Mi"
    assert state.get("nothing", 1) == 1
    with pytest.raises(KeyError, match="nothing"):
        state["nothing"]
