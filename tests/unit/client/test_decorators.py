"""What decorators supply of a function's arguments, and what callers then have to give."""

import contextlib
import functools
import inspect
import json
from unittest import mock

import pytest

from openlaunch.client.packing.documents import pack_schemas
from openlaunch.client.packing.interface import interface_of


class Session:
    pass


def passes_on(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        for _ in range(2):
            kwargs.get("x")
        return fn(*args, **kwargs)

    return wrapper


def gives_it_on(fn):
    """As libraries do that call again."""

    def call(given, *args, **kwargs):
        return given(*args, **kwargs)

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return call(fn, *args, **kwargs)

    return wrapper


def by_name(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, session=Session(), **kwargs)

    return wrapper


def by_default(fn):
    @functools.wraps(fn)
    async def wrapper(**kwargs):
        kwargs.setdefault("session", Session())
        return await fn(**kwargs)

    return wrapper


def by_entry(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        kwargs["session"] = Session()
        kwargs.update(unused=1)
        return fn(*args, **kwargs)

    return wrapper


def by_place(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(Session(), *args, **kwargs)

    return wrapper


def by_computed_name(fn):
    names = [name for name in inspect.signature(fn).parameters if name == "session"]

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        kwargs = {**kwargs, **dict.fromkeys(names, Session())}
        return fn(*args, **kwargs)

    return wrapper


def as_a_lambda(fn):
    return functools.wraps(fn)(lambda *args, **kwargs: fn(*args, session=Session(), **kwargs))


class Injected:
    def __init__(self, fn):
        functools.update_wrapper(self, fn)

    def __call__(self, *args, **kwargs):
        return self.__wrapped__(*args, session=Session(), **kwargs)


def required(decorate):
    def predict(session: Session, x: int, y: int = 2): ...

    interface = interface_of(decorate(predict), has_model=False)
    return json.loads(pack_schemas(interface, interface))["RequestSchema"]["required"]


@contextlib.contextmanager
def within():
    yield


@pytest.mark.parametrize("decorate", [passes_on, gives_it_on, functools.cache, within()])
def test_what_passes_arguments_on_changes_nothing(decorate):
    assert required(decorate) == ["session", "x"]


@pytest.mark.parametrize(
    "decorate",
    [
        by_name,
        by_default,
        by_entry,
        as_a_lambda,
        Injected,
        lambda fn: passes_on(by_name(functools.cache(fn))),
    ],
)
def test_an_argument_that_a_decorator_supplies_by_name_need_not_come(decorate):
    assert required(decorate) == ["x"]


@pytest.mark.parametrize("decorate", [by_place, by_computed_name, mock.patch("json.dumps")])
def test_of_a_decorator_that_may_supply_any_argument_none_has_to_come(decorate):
    assert required(decorate) == []


def test_a_decorator_with_names_of_its_own_says_what_comes():
    def with_session(fn):
        @functools.wraps(fn)
        def wrapper(self, x: int, more: str = ""):
            return fn(self, Session(), x)

        return wrapper

    class Model:
        @with_session
        def predict(self, session: Session, x: int): ...

    interface = interface_of(passes_on(Model().predict), has_model=False)
    assert [*interface.parameters] == ["x", "more"]
    assert [*interface_of(Model().predict, has_model=False).parameters] == ["x", "more"]
