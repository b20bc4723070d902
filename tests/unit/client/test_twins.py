"""The blocking and the awaitable client have the same methods, with the same parameters, defaults and answers."""

import inspect
import re

import pytest

import openlaunch
from openlaunch import aio
from openlaunch.client.chats import AsyncChatStream, ChatStream
from openlaunch.client.logs import AsyncLogStream, LogStream

PAIRS = [
    *(
        (getattr(openlaunch, name), twin)
        for name, twin in vars(aio).items()
        if inspect.isclass(twin) and twin.__module__ == aio.__name__ and hasattr(openlaunch, name)
    ),
    (ChatStream, AsyncChatStream),
    (LogStream, AsyncLogStream),
]
AWAITABLE_ONLY = {
    "LaunchClient.watcher",  # the blocking client makes its own where a callback is first added
    "EndpointResponse.load",  # what `value` of the blocking one does: to fetch a result that is a link
}


def public(made):
    return {name: member for name, member in inspect.getmembers(made) if not name.startswith("_")}


def described(function):
    """The parameters and what is returned, without what the twins call differently."""
    signature = inspect.signature(function)
    parameters = [(p.name, p.kind, p.default, plain(p.annotation)) for p in signature.parameters.values()]
    return parameters, plain(signature.return_annotation)


def plain(annotation):
    return re.sub(r"openlaunch(\.\w+)+\.|<class '|'>|Async(?=Iterator)", "", str(annotation))


def test_all_classes_have_a_twin():
    assert {blocking.__name__ for blocking, _ in PAIRS} == {
        "AsyncEndpoint",
        "AsyncEndpointBatchResponse",
        "ChatStream",
        "Endpoint",
        "EndpointResponse",
        "EndpointResponseFuture",
        "EndpointResponseStream",
        "LaunchClient",
        "LogStream",
        "StreamingEndpoint",
        "SyncEndpoint",
    }


@pytest.mark.parametrize(("blocking", "awaitable"), PAIRS, ids=lambda made: made.__name__)
def test_twins_have_the_same_methods(blocking, awaitable):
    ours, theirs = public(blocking), public(awaitable)
    only = {f"{awaitable.__name__}.{name}" for name in theirs.keys() - ours.keys()}
    assert (ours.keys() - theirs.keys(), only - AWAITABLE_ONLY) == (set(), set())
    methods = {name for name, member in ours.items() if inspect.isfunction(member)}
    for name in methods:
        assert (name, described(ours[name])) == (name, described(theirs[name]))
        assert theirs[name].__doc__, name


def test_the_two_ways_to_wait_for_several_take_the_same():
    assert described(openlaunch.as_completed) == described(aio.as_completed)
