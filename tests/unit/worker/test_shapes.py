from functools import partial, wraps

import pytest

from openlaunch_worker.shapes import Shape, shape_of


def plain(x): ...


async def coroutine(x): ...


def generator(x):
    yield x


async def async_generator(x):
    yield x


class Model:
    async def __call__(self, x): ...

    def method(self, x):
        yield x


class Plain:
    def __call__(self, x): ...


@wraps(coroutine)
def wrapper(x):
    return coroutine(x)


@pytest.mark.parametrize(
    ("predict", "shape"),
    [
        (plain, Shape.PLAIN),
        (coroutine, Shape.COROUTINE),
        (generator, Shape.GENERATOR),
        (async_generator, Shape.ASYNC_GENERATOR),
        (partial(coroutine, 1), Shape.COROUTINE),
        (partial(partial(async_generator), 1), Shape.ASYNC_GENERATOR),
        (Model(), Shape.COROUTINE),
        (partial(Model(), 1), Shape.COROUTINE),
        (Model().method, Shape.GENERATOR),
        (Plain(), Shape.PLAIN),
        (Model, Shape.PLAIN),
        (len, Shape.PLAIN),
        (wrapper, Shape.PLAIN),
        (lambda x: x, Shape.PLAIN),
    ],
)
def test_shape(predict, shape):
    assert shape_of(predict) is shape


def test_only_async_functions_are_called_on_the_loop():
    assert {s for s in Shape if s.on_loop} == {Shape.COROUTINE, Shape.ASYNC_GENERATOR}


def test_only_generators_surely_yield():
    assert {s for s in Shape if s.yields} == {Shape.GENERATOR, Shape.ASYNC_GENERATOR}
