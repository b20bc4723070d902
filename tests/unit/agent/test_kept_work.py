"""A request whose server is gone, and what is kept of it for another one."""

import pytest
from shared_worker import BODY, Node, in_loop

from openlaunch.agent import kept_work
from openlaunch.agent.kept_work import FRAME_BYTES
from openlaunch.engines.base import EngineError
from openlaunch.nodes.calls import Keep
from openlaunch_worker.frames import (
    CREDIT_BODY,
    STREAM_WINDOW,
    FrameError,
    FrameParser,
    Kind,
    encode,
)


def kept(link, number, ended=10.0, size=1000, worker_id="end.1", seconds=10.0):
    """Have the request that comes next kept."""
    keep = Keep(link.first_id + number, f"work {number}", size, ended, seconds)
    link.channels[link.seat(worker_id)].keep(keep)


def gone(node, link):
    link.channels.clear()
    node.slots.leave(link)


def left(link):
    return [name for names in link.left for name in names]


@in_loop
@pytest.mark.parametrize("cut", [1, 9, 14, 40])
def test_a_stream_whose_server_is_gone_comes_whole_to_another_one(cut):
    node = Node()
    first, second = node.links
    kept(first, 1)
    first.ask(first.request(1))
    number = first.first_id + 1
    frames = [encode(Kind.CHUNK, number, b"data: %d\n\n" % n) for n in range(4)]
    frames.append(encode(Kind.END, number, b"\0"))
    node.relay.data_received(frames[0])
    first.ask(encode(Kind.CREDIT, number, CREDIT_BODY.pack(9)))
    rest = b"".join(frames[1:])
    node.relay.data_received(rest[:cut])  # a part of it goes to the server that is gone
    gone(node, first)
    assert left(second) == ["work 1"]
    assert (Kind.CANCEL, number) not in node.worker.frames()
    node.slots.kept.take_up("work 1", second)
    with pytest.raises(EngineError, match="waits for a server"):
        node.slots.kept.take_up("work 1", second)
    channel = max(second.opened)
    opened = second.opened[channel]["taken_up"]
    assert (opened["number"], opened["dropped"]) == (number, 0)
    assert opened["held"] - opened["ahead"] == 9
    second.channels[channel].receive(encode(Kind.CREDIT, number, CREDIT_BODY.pack(9)))
    assert node.worker.frames()[-1] == (Kind.CREDIT, number)
    node.relay.data_received(rest[cut:])
    assert second.data[channel] == b"".join(frames)
    with pytest.raises(FrameError, match="was taken up"):
        second.channels[channel].receive(encode(Kind.CANCEL, number + 1))


@in_loop
def test_what_nobody_takes_up_or_nobody_wants_is_cancelled():
    node = Node(slots=6, grace=60)
    first, second = node.links
    for number in (1, 2, 3):
        kept(first, number)
        first.ask(first.request(number))
    first.ask(encode(Kind.CANCEL, first.first_id + 3))
    gone(node, first)
    assert left(second) == ["work 1", "work 2"]
    node.slots.kept.take_up("work 1", second)
    channel = max(second.opened)
    second.channels.pop(channel).closed()
    node.slots.kept.forget(node.relay.kept[first.first_id + 2])  # as its time does
    cancelled = [of - first.first_id for kind, of in node.worker.frames() if kind == Kind.CANCEL]
    assert cancelled == [3, 1, 2]
    assert node.slots.kept.left() == []


@in_loop
def test_what_is_kept_has_limits():
    node = Node(slots=6)
    first, second = node.links
    for number in (1, 2):
        kept(first, number, size=300)
        first.ask(first.request(number))
    for number in range(10):
        node.says(Kind.CHUNK, first.first_id + 1, b"data: %d\n\ndata: x\n\n" % number)
    node.says(Kind.RESULT, first.first_id + 2, bytes(300))
    gone(node, first)
    assert left(second) == ["work 1"]
    work = node.relay.kept[first.first_id + 1]
    assert work.size == node.slots.kept.size == (27 + FRAME_BYTES) * 3
    assert work.dropped == 2 * 7
    node.says(Kind.CHUNK, first.first_id + 1, bytes(2 * STREAM_WINDOW + 200))
    assert node.slots.kept.left() == []
    assert node.slots.kept.size == 0
    assert (Kind.CANCEL, first.first_id + 1) in node.worker.frames()


@in_loop
@pytest.mark.parametrize("ended", [0.0, 10.0], ids=["task", "request with a key"])
def test_an_answer_is_kept_for_a_server_that_has_not_had_it(ended):
    node = Node(slots=6)
    first, second = node.links
    for number in (1, 2):
        kept(first, number, ended)
        first.ask(first.request(number))
    node.says(Kind.RESULT, first.first_id + 1, b"\0one")
    gone(node, first)
    node.says(Kind.RESULT, first.first_id + 2, b"\0two")
    assert left(second) == (["work 1", "work 2"] if ended else ["work 2"])
    node.slots.kept.take_up("work 2", second)
    assert second.data[max(second.opened)] == encode(Kind.RESULT, first.first_id + 2, b"\0two")
    assert node.relay.kept == {}


@in_loop
def test_a_request_of_which_a_part_has_come_is_not_kept():
    node = Node(grace=60)
    first, second = node.links
    kept(first, 1)
    first.ask(first.request(1, BODY)[:50])
    gone(node, first)
    assert left(second) == []
    assert (Kind.CANCEL, first.first_id + 1) in node.worker.frames()


@in_loop
def test_a_stream_that_is_longer_than_what_is_kept_has_its_end():
    node = Node()
    first, second = node.links
    kept(first, 1)
    first.ask(first.request(1))
    number = first.first_id + 1
    for n in range(100):
        node.says(Kind.CHUNK, number, b"data: %d\n\n" % n)
    node.says(Kind.END, number, bytes(300))
    gone(node, first)
    node.slots.kept.take_up("work 1", second)
    channel = max(second.opened)
    *chunks, end = [kind for kind, _, _ in FrameParser().feed(second.data[channel])]
    assert set(chunks) == {Kind.CHUNK}
    assert end == Kind.END
    assert second.opened[channel]["taken_up"]["dropped"] + len(chunks) == 100


@in_loop
def test_a_part_of_an_answer_counts_and_many_small_frames_do():
    node = Node()
    first, _ = node.links
    kept(first, 1, size=10_000)
    first.ask(first.request(1))
    answer = encode(Kind.RESULT, first.first_id + 1, bytes(5000))
    node.relay.data_received(answer[:4000])
    assert node.slots.kept.size == 4000
    node.relay.data_received(answer[4000:])
    assert node.slots.kept.size == len(answer) + FRAME_BYTES
    kept(first, 2, size=10_000)
    first.ask(first.request(2))
    for _ in range(1000):
        node.says(Kind.CHUNK, first.first_id + 2)
    assert len(node.relay.kept[first.first_id + 2].frames) < 10_000 / FRAME_BYTES


@in_loop
def test_what_one_owner_has_kept_takes_nothing_of_another_ones(monkeypatch):
    monkeypatch.setattr(kept_work, "MAX_OWNER_BYTES", 3000)
    monkeypatch.setattr(kept_work, "MAX_BYTES", 6000)
    node = Node(slots=8, owner="ada")
    other, _ = node.started("other.1", slots=2, owner="bob")
    first, second = node.links
    kept(first, 9, size=5000, worker_id="other.1")
    first.ask(first.request(9), "other.1")
    other.data_received(encode(Kind.RESULT, first.first_id + 9, bytes(2000)))
    for number in (1, 2, 3):
        kept(first, number, size=5000)
        first.ask(first.request(number))
        node.says(Kind.RESULT, first.first_id + number, bytes(2000))
    gone(node, first)
    assert left(second) == ["work 9", "work 3"]


@in_loop
def test_no_more_requests_are_kept_than_the_worker_has_slots():
    node = Node(servers=1, slots=2)
    (first,) = node.links
    kept(first, 1)
    with pytest.raises(FrameError, match="which can't come"):
        kept(first, 1)
    for number in range(2, 100):
        kept(first, number)
    assert [work.number - first.first_id for work in node.relay.kept.values()] == [98, 99]
    assert len(node.slots.kept._by_name) == 2
    for number in (98, 99):
        first.ask(first.request(number))
    with pytest.raises(FrameError, match="than the worker has slots"):
        kept(first, 100)


@in_loop
@pytest.mark.parametrize("seconds", [float("nan"), float("-inf"), -1.0])
def test_a_time_that_is_none_is_over_at_once(seconds):
    node = Node(grace=60)
    first, _ = node.links
    kept(first, 1, seconds=seconds)
    first.ask(first.request(1))
    gone(node, first)
    assert (Kind.CANCEL, first.first_id + 1) in node.worker.frames()
    assert node.slots.kept.left() == []
