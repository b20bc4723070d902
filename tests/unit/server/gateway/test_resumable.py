"""What is held of streams that can be resumed, and its bounds."""

import asyncio

import pytest
from server_links import in_loop

from openlaunch.errors import NotFound
from openlaunch.server.gateway import resumable
from openlaunch.server.gateway.resumable import Replay, Resumables
from openlaunch.server.settings import Settings


def event(text):
    return f"data: {text}\n\n".encode()


def numbered(number, text):
    return f"id: s-{number}\ndata: {text}\n\n".encode()


def replay_of(name="s", owner="me"):
    return Replay(name, owner, "end")


def test_each_event_of_a_piece_has_a_number():
    replay = replay_of()
    assert replay.add(event("a") + event("b")) == numbered(1, "a") + numbered(2, "b")
    assert replay.add(b"event: end\n\n") == b"id: s-3\nevent: end\n\n"
    assert replay.last == 3


def test_what_came_after_an_event_is_given_again():
    replay = replay_of()
    replay.add(event("a") + event("b"))
    assert replay.resume(0) == numbered(1, "a") + numbered(2, "b")
    assert replay.resume(1) == numbered(2, "b")
    assert replay.resume(2) == b""
    with pytest.raises(NotFound, match="the stream is at event 2"):
        replay.resume(3)


def test_what_was_dropped_is_not_skipped_in_silence():
    replay = replay_of()
    size = len(replay.add(event("a") + event("b")))
    assert replay.drop_oldest() + replay.size == size
    with pytest.raises(NotFound, match="what came after event 0 is no longer held"):
        replay.resume(0)
    assert replay.resume(1) == numbered(2, "b")


class Streams:
    """Streams of one owner, as the bounds see them."""

    def __init__(self, **settings):
        self.resumables = Resumables(Settings(**settings), asyncio.get_running_loop())

    def stream(self, name="s", owner="me"):
        replay = replay_of(name, owner)
        self.resumables.add(replay, name)
        return replay

    def add(self, replay, *texts):
        for text in texts:
            self.resumables.keep(replay, event(text))

    def is_there(self, replay, *, owner="me", endpoint="end"):
        try:
            return self.resumables.find(owner, endpoint, f"{replay.id}-1".encode()) == (replay.id, 1)
        except NotFound:
            return False


@in_loop
async def test_a_stream_drops_its_oldest_events_past_its_bound():
    streams = Streams(stream_replay_bytes=50)
    replay = streams.stream()
    streams.add(replay, *"abc")
    assert replay.resume(1) == numbered(2, "b") + numbered(3, "c")
    with pytest.raises(NotFound):
        replay.resume(0)


@in_loop
async def test_a_stream_without_its_client_keeps_all():
    streams = Streams(stream_replay_bytes=50)
    replay = streams.stream()
    streams.resumables.await_client(replay, lambda: None)
    streams.add(replay, *"abc")
    assert replay.resume(0) == numbered(1, "a") + numbered(2, "b") + numbered(3, "c")


@in_loop
async def test_a_client_that_is_not_back_in_time_is_given_up():
    streams, given_up = Streams(stream_resume_seconds=0.01), asyncio.Event()
    streams.resumables.await_client(streams.stream(), given_up.set)
    await asyncio.wait_for(given_up.wait(), 10)


@in_loop
async def test_a_client_that_is_back_is_not_given_up():
    streams, given_up = Streams(stream_resume_seconds=0.01), asyncio.Event()
    replay, away = streams.stream("back"), streams.stream("away")
    streams.resumables.await_client(replay, lambda: pytest.fail("the client was there"))
    replay.resume(0)
    streams.resumables.await_client(away, given_up.set)
    await asyncio.wait_for(given_up.wait(), 10)


@in_loop
async def test_past_the_bound_of_all_the_streams_that_ended_first_go_first():
    streams = Streams(max_replay_bytes=160)
    first, second, third = all_three = [streams.stream(name) for name in "123"]
    for ended in (first, second):
        streams.resumables.end(ended, event("a"))
    streams.add(third, *"abc")
    assert [streams.is_there(replay) for replay in all_three] == [False, True, True]
    streams.add(third, *"de")
    assert [streams.is_there(replay) for replay in all_three] == [False, False, True]
    assert third.size <= 80
    with pytest.raises(NotFound):
        third.resume(0)


@in_loop
async def test_so_many_streams_that_ended_are_kept_however_small_they_are(monkeypatch):
    monkeypatch.setattr(resumable, "MAX_ENDED", 2)
    streams = Streams()
    ended = [streams.stream(name) for name in "123"]
    for replay in ended:
        streams.resumables.end(replay, event("a"))
    assert [streams.is_there(replay) for replay in ended] == [False, True, True]


@in_loop
async def test_an_owner_holds_as_much_as_is_free_and_pushes_out_nothing_of_others():
    streams = Streams(max_replay_bytes=120)
    ended, runs = streams.stream("1", "you"), streams.stream("2", "you")
    streams.resumables.end(ended, event("a"))
    streams.add(runs, "a")
    mine = streams.stream("3")
    for number in range(99):
        streams.add(mine, "a")
        streams.resumables.end(streams.stream(f"ended-{number}"), event("a"))
    assert streams.is_there(ended, owner="you")
    assert runs.resume(0) == b"id: 2-1\ndata: a\n\n"
    streams.add(runs, "b")
    assert runs.resume(0) == b"id: 2-1\ndata: a\n\nid: 2-2\ndata: b\n\n"


@in_loop
async def test_of_too_many_that_ended_the_owner_with_the_most_loses_the_oldest(monkeypatch):
    monkeypatch.setattr(resumable, "MAX_ENDED", 3)
    streams = Streams()
    ended = [streams.stream("yours", "you"), *(streams.stream(name) for name in "123")]
    for replay in ended:
        streams.resumables.end(replay, event("a"))
    assert [streams.is_there(replay, owner=replay.owner) for replay in ended] == [True, False, True, True]


@in_loop
async def test_an_owner_whose_lost_clients_hold_more_than_there_is_loses_some_of_these_streams():
    streams, given_up = Streams(max_replay_bytes=50), asyncio.Event()
    replay = streams.stream()
    streams.resumables.await_client(replay, given_up.set)
    streams.add(replay, "a")
    await asyncio.sleep(0)
    assert not given_up.is_set()
    streams.add(replay, *"bcd")
    await asyncio.wait_for(given_up.wait(), 10)


@in_loop
async def test_a_stream_is_its_owners_and_its_endpoints():
    streams = Streams()
    replay = streams.stream()
    assert streams.is_there(replay)
    assert not streams.is_there(replay, owner="other")
    assert not streams.is_there(replay, endpoint="other")
    streams.resumables.forget(replay)
    streams.resumables.forget(replay)
    assert not streams.is_there(replay)


@in_loop
@pytest.mark.parametrize("wrong", [b"", b"s", b"s-", b"s-x", b"s--1", "s-\u00b9".encode("latin-1")])
async def test_what_is_no_id_is_not_found(wrong):
    streams = Streams()
    streams.stream("s")
    with pytest.raises(NotFound, match="begins anew"):
        streams.resumables.find("me", "end", wrong)
