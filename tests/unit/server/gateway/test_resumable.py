"""What is held of streams that can be resumed, and its bounds."""

import asyncio
from types import SimpleNamespace

import pytest
from server_links import in_loop

from openlaunch.errors import NotFound
from openlaunch.server.gateway.resumable import Replay, Resumables, ResumableStream
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.settings import Settings


def event(text):
    return f"data: {text}\n\n".encode()


def numbered(number, text):
    return f"id: s-{number}\ndata: {text}\n\n".encode()


def test_each_event_of_a_piece_has_a_number():
    replay = Replay("s")
    assert replay.add(event("a") + event("b")) == numbered(1, "a") + numbered(2, "b")
    assert replay.add(b"event: end\n\n") == b"id: s-3\nevent: end\n\n"
    assert replay.last == 3


def test_what_came_after_an_event_is_given_again():
    replay = Replay("s")
    replay.add(event("a") + event("b"))
    assert replay.after(0) == numbered(1, "a") + numbered(2, "b")
    assert replay.after(1) == numbered(2, "b")
    assert replay.after(2) == b""
    assert replay.after(3) is None


def test_what_was_dropped_is_not_skipped_in_silence():
    replay = Replay("s")
    size = len(replay.add(event("a") + event("b")))
    assert replay.drop_oldest() + replay.size == size
    assert replay.after(0) is None
    assert replay.after(1) == numbered(2, "b")


class Streams:
    """Streams of one owner, as the bounds see them."""

    def __init__(self, **settings):
        self.resumables = Resumables(Settings(**settings), asyncio.get_running_loop())

    def stream(self, name, attached=True):
        stream = SimpleNamespace(
            id=name, owner="me", endpoint_id="end", replay=Replay(name), attached=attached
        )
        self.resumables.add(stream)
        return stream

    def add(self, stream, text):
        self.resumables.grown(stream, len(stream.replay.add(event(text))))

    def is_there(self, stream, *, owner="me", endpoint="end"):
        try:
            return self.resumables.find(owner, endpoint, f"{stream.id}-1".encode())[0] is stream
        except NotFound:
            return False


@in_loop
async def test_a_stream_drops_its_oldest_events_past_its_bound():
    streams = Streams(stream_replay_bytes=50)
    stream = streams.stream("s")
    for text in "abc":
        streams.add(stream, text)
    assert stream.replay.after(0) is None
    assert stream.replay.after(1) == numbered(2, "b") + numbered(3, "c")


@in_loop
async def test_a_stream_without_its_client_keeps_all():
    streams = Streams(stream_replay_bytes=50)
    stream = streams.stream("s", attached=False)
    for text in "abc":
        streams.add(stream, text)
    assert stream.replay.after(0) is not None


@in_loop
async def test_past_the_bound_of_all_the_streams_that_ended_first_go_first():
    streams = Streams(max_replay_bytes=80)
    first, second, third = (streams.stream(name) for name in "123")
    for stream in (first, second):
        streams.add(stream, "a")
        streams.resumables.ended(stream)
    for text in "abc":
        streams.add(third, text)
    assert [streams.is_there(stream) for stream in (first, second, third)] == [False, True, True]
    streams.add(third, "d")
    streams.add(third, "e")
    assert [streams.is_there(stream) for stream in (first, second, third)] == [False, False, True]
    assert third.replay.after(0) is None
    assert third.replay.size <= 80


@in_loop
async def test_a_stream_that_never_got_a_worker_leaves_nothing_behind():
    streams = Streams()
    gateway = SimpleNamespace(resumables=streams.resumables)
    exchange = SimpleNamespace(body=b"{}")
    stream = ResumableStream(gateway, exchange, PredictInput(b"{}"), 0.0, "me", "end")
    assert not streams.is_there(stream)
    stream.started(SimpleNamespace(), 1)
    assert streams.is_there(stream)


@in_loop
async def test_a_stream_is_its_owners_and_its_endpoints():
    streams = Streams()
    stream = streams.stream("s")
    assert streams.is_there(stream)
    assert not streams.is_there(stream, owner="other")
    assert not streams.is_there(stream, endpoint="other")
    streams.resumables.forget(stream)
    streams.resumables.forget(stream)
    assert not streams.is_there(stream)


@in_loop
@pytest.mark.parametrize("wrong", [b"", b"s", b"s-", b"s-x", b"s--1", "s-\u00b9".encode("latin-1")])
async def test_what_is_no_id_is_not_found(wrong):
    streams = Streams()
    streams.stream("s")
    with pytest.raises(NotFound, match="begins anew"):
        streams.resumables.find("me", "end", wrong)
