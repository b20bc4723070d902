"""Whether a loader returns a generator function, as its source says."""

import functools
import textwrap

import pytest

from openlaunch.client.packing.returned_functions import returns_generator, returns_generator_in_file


def items(n):
    yield n


async def awaited_items(n):
    yield n


def whole(n):
    return list(items(n))


def inner(model):
    def predict(n):
        for _ in range(n):
            yield model

    return predict


def inner_async(model):
    async def predict(n):
        yield n

    return predict


def either(model):
    if model:

        def predict(n):
            yield n
    else:

        def predict(n):
            yield from ()

    return predict


def outer(model):
    return items


def with_model(model):
    return functools.partial(items, model)


def of_closure():
    predict = items
    return lambda model: predict


def helper_yields(model):
    def tokens(n):
        yield n

    def predict(n):
        return list(tokens(n))

    return predict


def replaced(model):
    def predict(n):
        yield n

    for predict in (whole,):
        predict(1)
    return predict


def decorated(model):
    @functools.cache
    def predict(n):
        yield n

    return predict


def of_model(items):
    return items


def sometimes(model):
    if model:
        return items
    return whole


def called(model):
    return items(model)


def is_generator_itself(model):
    yield items


LAMBDAS = [lambda model: items, lambda model: whole]


@functools.wraps(outer)
def wrapping(model):
    return whole


@pytest.mark.parametrize("loader", [inner, inner_async, either, outer, with_model, of_closure(), LAMBDAS[0]])
def test_surely(loader):
    assert returns_generator(loader)


@pytest.mark.parametrize(
    "loader",
    [
        LAMBDAS[1],
        helper_yields,
        replaced,
        decorated,
        of_model,
        sometimes,
        called,
        is_generator_itself,
        wrapping,
        len,
        functools.partial(outer, 1),
        eval("lambda model: items"),
    ],
)
def test_not_surely(loader):
    assert not returns_generator(loader)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("def load(config, model):\n    return predict\ndef predict(n):\n    yield n", True),
        ("def load(config, model):\n    def predict(n):\n        yield n\n    return predict", True),
        ("from other import predict\ndef load(config, model):\n    return predict", False),
        ("def predict(n):\n    yield n\npredict = list\ndef load(config, model):\n    return predict", False),
        ("def load(:", False),
        ("load = 1", False),
    ],
)
def test_in_a_file(body, found):
    assert returns_generator_in_file(textwrap.dedent(body).encode(), "load") is found
