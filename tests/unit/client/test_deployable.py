"""What `deploy` refuses before anything is sent, and what it says to write instead."""

import functools
import json
import math
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from openlaunch.client.deployable import check_functions, check_schema_fits
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


class Asked(BaseModel):
    """Fields with and without a default that JSON has."""

    text: str
    tags: list[str] = Field(default_factory=list)
    id: UUID = Field(default_factory=uuid4)
    most: float = math.inf
    raw: bytes = b"\xff"
    user: str = Field("bob", alias="userName")


def with_defaults(text, tags, id=None, most=0.0, raw=b"", userName=""):  # noqa: N803, A002
    return text


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda tags: tags, "needs 'text', which fn does not take"),
        (lambda text, id: text, "lets 'id' be left out"),  # noqa: A006
        (lambda text, most: text, "lets 'most' be left out"),
        (lambda text, raw: text, "lets 'raw' be left out"),
        (lambda text, user: text, "calls the field 'user' 'userName' in requests"),
    ],
)
def test_a_function_that_would_fail_on_what_its_schema_lets_pass_is_refused(fn, message):
    with pytest.raises(BundleError, match=f"request_schema {message}"):
        check_schema_fits(fn, Asked, has_model=False)


@pytest.mark.parametrize("fn", [with_defaults, lambda text: text, lambda **fields: fields, max])
def test_a_function_that_fits_its_schema_is_taken(fn):
    check_schema_fits(fn, Asked, has_model=False)
    check_schema_fits(lambda model, text: text, Asked, has_model=True)


def test_what_a_decorator_takes_counts():
    @functools.wraps(with_defaults)
    def decorated(*args, **kwargs):
        return with_defaults("", [])

    check_schema_fits(decorated, Asked, has_model=False)


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


@pytest.mark.parametrize("fn", [lambda: 1, lambda *, text: text, lambda **fields: fields])
def test_a_function_that_can_not_get_the_model_is_refused(fn):
    check_functions(fn, None, None)
    with pytest.raises(BundleError, match=r"takes no positional argument.*def predict\(model, …\)"):
        check_functions(fn, lambda: 1, None)
