from functools import partial, wraps

import pytest

from openlaunch_worker.shapes import Shape, by_name, shape_of


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


def test_what_is_taken_by_position_alone_can_be_given_by_name():
    def both(predict, names, /, x=3, **others):
        return predict, names, x, others

    assert by_name(both)(names=2, predict=1, more=4) == (1, 2, 3, {"more": 4})
    assert by_name(len)(obj=[1]) == by_name(len)([1]) == 1
    assert by_name(plain) is plain
    with pytest.raises(TypeError, match="'names'"):
        by_name(both)(predict=1)
