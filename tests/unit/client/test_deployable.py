"""What `deploy` refuses before anything is sent, and what it says to write instead."""

import json

import pytest

from openlaunch.client.deployable import check_functions
from openlaunch.errors import BundleError


class Estimator:
    def predict(self, x):
        return x


def predict(x):
    return x


def items(n):
    yield n


async def awaited_items(n):
    yield n


async def awaited(x):
    return x


def unawaited():
    coroutine = awaited(1)
    coroutine.close()
    return coroutine


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (None, "fn is None, a function is needed: a decorator"),
        ("model:predict", r"fn is of type str.*`openlaunch deploy MODULE:FUNCTION`"),
        (predict(2), "fn is of type int.*the function itself, not what it returns"),
        (items(2), "fn is of type generator.*without calling it"),
        (unawaited(), "fn is of type coroutine.*without calling it"),
        (Estimator(), r"fn is of type Estimator.*give its method, fn=….predict"),
        (Estimator, "fn is the class Estimator.*load_model_fn=Estimator"),
        (json, "fn is of type module.*one of the module's functions"),
    ],
)
def test_what_is_no_function_is_refused_with_what_to_write(fn, message):
    with pytest.raises(BundleError, match=message):
        check_functions(fn, None, None)


def test_a_loader_is_a_function():
    with pytest.raises(BundleError, match="load_model_fn is of type dict, a function"):
        check_functions(predict, {"a": 1}, None)
    check_functions(Estimator.predict, Estimator, None)
    with pytest.raises(BundleError, match=r"load_model_fn yields the model, .* return the model"):
        check_functions(predict, items, None)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("fn", [items, awaited_items])
def test_a_generator_is_for_streaming_endpoints(fn, kind):
    with pytest.raises(BundleError, match=f"leave endpoint_type='{kind}' out, or let fn return a list"):
        check_functions(fn, None, kind)
    assert check_functions(fn, None, "streaming").yields


def test_a_value_is_not_shown():
    with pytest.raises(BundleError) as caught:
        check_functions("S3CRET", {"key": "S3CRET"}, None)
    assert "S3CRET" not in str(caught.value)
