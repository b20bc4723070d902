"""A worker that several servers use: wherever what they send is cut, frames stay whole and find their way."""

import asyncio
import random
from functools import wraps

import pytest

from openlaunch.agent import kept_work
from openlaunch.agent.kept_work import FRAME_BYTES
from openlaunch.agent.shared_slots import SharedSlots
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.base import EngineError, WorkerSpec
from openlaunch.nodes.calls import LEFT, NEWS, Keep
from openlaunch.nodes.link import TOKENS
from openlaunch.nodes.link import Kind as LinkKind
from openlaunch_worker.frames import (
    CREDIT_BODY,
    SEAT_IDS,
    STREAM_WINDOW,
    FrameError,
    FrameParser,
    Kind,
    encode,
)

BODY = bytes(range(256)) * 300


def in_loop(test):
    @wraps(test)
    def run(*args, **kwargs):
        async def main():
            test(*args, **kwargs)

        asyncio.run(main())

    return run


class Link:
    """A server's link: its channels, and what it was sent over each."""

    def __init__(self, number):
        self.first_id = number * SEAT_IDS
        self.name = f"server {number}"
        self.channels, self.opened, self.data = {}, {}, {}
        self.said, self.told, self.left = [], [], []

    def open_channel(self, end, document):
        number = len(self.opened) + 1
        self.channels[number], self.opened[number], self.data[number] = end, document, b""
        return number

    def send_data(self, number, data):
        assert number in self.channels
        self.data[number] += data

    def send(self, kind, number, payload=b""):
        self.said.append((kind, int(TOKENS.unpack(payload)[0]) if payload else None))

    def tell(self, event, about):
        if event is LEFT:
            self.left.append(about)
        else:
            assert event is NEWS
            self.told.append(about.kind)

    def close_channel(self, number):
        self.channels.pop(number, None)

    def lose(self, reason):
        raise AssertionError(reason)

    def seat(self, worker_id="end.1"):
        """Return the number of the channel over which requests go to a worker."""
        return next(
            number
            for number, document in self.opened.items()
            if "worker" in document and document["worker"]["worker_id"] == worker_id
        )

    def frames(self, number):
        return [(kind, of - self.first_id) for kind, of, _ in FrameParser().feed(self.data[number])]

    def ask(self, data, worker_id="end.1"):
        self.channels[self.seat(worker_id)].receive(data)

    def request(self, number, body=b"{}"):
        return encode(Kind.REQUEST, self.first_id + number, bytes(9) + body)


class Transport:
    """A worker's socket: what it was sent."""

    def __init__(self):
        self.data = b""
        self.is_read = True

    def set_protocol(self, protocol):
        pass

    def write(self, data):
        self.data += data

    def is_closing(self):
        return False

    def pause_reading(self):
        self.is_read = False

    def resume_reading(self):
        self.is_read = True

    def frames(self):
        return [(kind, of) for kind, of, _ in FrameParser().feed(self.data)]


class Node:
    """A worker that is ready, and the servers that use it, the first of which leads."""

    def __init__(self, servers=2, slots=2, **spec):
        self.slots = SharedSlots()
        self.links = [Link(number) for number in range(1, servers + 1)]
        for link in self.links:
            self.slots.join(link)
        self.relay, self.worker = self.started("end.1", slots=slots, **spec)

    def started(self, worker_id, **spec):
        """A further worker that is ready."""
        leader = self.links[0]
        spec = WorkerSpec(worker_id, worker_id.partition(".")[0], "env", "", "token", **spec)
        relay, worker = WorkerRelay(spec, leader, self.slots), Transport()
        relay.connect(worker)
        leader.channels[max(leader.opened)].receive(encode(Kind.START, 0, b"{}") + encode(Kind.BUNDLE, 0))
        relay.data_received(encode(Kind.READY, 0))
        relay._let_sit()
        return relay, worker

    def says(self, kind, number, payload=b""):
        self.relay.data_received(encode(kind, number, payload))


@in_loop
def test_slots_are_spread_and_move_to_the_server_whose_requests_wait():
    node = Node()
    first, second = node.links
    assert (LinkKind.GRANT, 1) in first.said
    assert (LinkKind.GRANT, 1) in second.said
    first.ask(first.request(1))
    second.ask(second.request(1))
    with pytest.raises(FrameError, match="without a token"):
        second.ask(second.request(2))
    node.slots.wanted(second, "end", 1)
    node.says(Kind.RESULT, first.first_id + 1, b"\0x")
    assert first.said[-1] == (LinkKind.TAKE, None)
    assert second.said[-1] == (LinkKind.GRANT, 1)
    assert first.frames(first.seat()) == [(Kind.RESULT, 1)]
    assert second.frames(second.seat()) == []
    with pytest.raises(FrameError, match="not this server's"):
        second.ask(first.request(3))


@in_loop
@pytest.mark.parametrize("seed", range(50))
def test_frames_of_several_servers_stay_whole_wherever_they_are_cut(seed):
    chance = random.Random(seed)
    node = Node(servers=3, slots=9)
    sent = {
        link: b"".join(link.request(n, chance.choice((b"{}", BODY))) for n in (1, 2, 3))
        for link in node.links
    }
    left = dict(sent)
    while left:
        link = chance.choice(list(left))
        size = chance.choice((1, 5, 12, 4000, 100_000))
        link.ask(left[link][:size])
        left[link] = left[link][size:]
        if not left[link]:
            del left[link]
    asked = [of for kind, of in node.worker.frames() if kind == Kind.REQUEST]
    assert sorted(asked) == sorted(link.first_id + n for link in node.links for n in (1, 2, 3))
    for link in node.links:
        assert [of for of in asked if of & -SEAT_IDS == link.first_id] == [
            link.first_id + n for n in (1, 2, 3)
        ]
    chance.shuffle(asked)
    back = b"".join(encode(Kind.CHUNK, of, BODY) + encode(Kind.END, of, b"\0") for of in asked)
    while back:
        size = chance.choice((1, 5, 12, 4000, 100_000))
        node.relay.data_received(back[:size])
        back = back[size:]
    for link in node.links:
        answered = [of for kind, of in link.frames(link.seat()) if kind == Kind.END]
        assert sorted(answered) == [1, 2, 3]


@in_loop
@pytest.mark.parametrize("cut", [0, 3, 9, 50, 5000])
def test_a_server_that_is_lost_has_its_requests_cancelled_and_another_gets_its_slots(cut):
    node = Node(grace=60)
    first, second = node.links
    first.ask(first.request(1, BODY)[:cut])
    second.ask(second.request(1))
    assert ((Kind.REQUEST, second.first_id + 1) in node.worker.frames()) == (cut < 9)
    first.channels.clear()
    node.slots.leave(first)
    frames = node.worker.frames()
    assert (Kind.REQUEST, second.first_id + 1) in frames
    assert ((Kind.CANCEL, first.first_id + 1) in frames) == (cut >= 9)
    if cut >= 9:
        node.says(Kind.HEARD, first.first_id + 1)
        node.says(Kind.RESULT, first.first_id + 1, b"\3")
    assert sum(tokens for kind, tokens in second.said if kind == LinkKind.GRANT) == 2


@in_loop
def test_another_server_leads_and_no_request_notices():
    node = Node()
    first, second = node.links
    for link in node.links:
        link.ask(link.request(1))
    node.relay.attach(second, "new")
    leads = max(second.opened)
    assert second.opened[leads] == {"token": "new", "standing": {"ready": True, "worn": False}}
    assert 1 not in first.channels
    for link in node.links:
        node.says(Kind.RESULT, link.first_id + 1, b"\0x")
        assert link.frames(link.seat()) == [(Kind.RESULT, 1)]
    node.says(Kind.RENEW, 0, b"it is worn")
    assert [kind for kind, _ in second.frames(leads)] == [Kind.RENEW]


@in_loop
def test_a_worker_drains_once_no_server_has_a_token():
    node = Node()
    first, second = node.links
    second.ask(second.request(1))
    first.channels[1].drain()
    assert first.said[-1] == (LinkKind.RECALL, 1)
    assert first.told == []
    first.channels[first.seat()].given(1)
    assert (Kind.DRAIN, 0) not in node.worker.frames()
    second.ask(encode(Kind.CANCEL, second.first_id + 1))
    assert first.told == ["unwanted"]
    node.says(Kind.RESULT, second.first_id + 1, b"\3")
    assert node.worker.frames()[-1] == (Kind.DRAIN, 0)
    assert not node.relay.may_be_kept


@in_loop
@pytest.mark.parametrize("kind", [Kind.LEAVING, Kind.UNHEALTHY])
def test_a_worker_that_asks_for_its_end_drains(kind):
    node = Node()
    node.says(kind, 0, b"it says no")
    for link in node.links:
        assert link.said[-1] == (LinkKind.RECALL, 1)
        link.channels[link.seat()].given(1)
    assert node.worker.frames()[-1] == (Kind.DRAIN, 0)


@in_loop
def test_requests_of_all_servers_count_until_the_worker_is_worn():
    node = Node(max_requests=2)
    for link in node.links:
        link.ask(link.request(1))
    assert node.links[0].told == ["worn"]


@in_loop
def test_what_is_not_for_a_seat_is_refused():
    node = Node()
    second = node.links[1]
    for kind in (Kind.DRAIN, Kind.START, Kind.BUNDLE):
        with pytest.raises(FrameError, match="does not belong there"):
            second.ask(encode(kind, 0))
        second.channels[second.seat()].cutter.missing = 0
    with pytest.raises(FrameError, match="not recalled"):
        second.channels[second.seat()].given(1)
    with pytest.raises(FrameError, match="does not have the worker"):
        second.channels[second.seat()].drain()


@in_loop
def test_a_server_that_can_not_read_holds_the_worker_up_until_it_is_gone():
    node = Node()
    second = node.links[1]
    seat = second.channels[second.seat()]
    seat.pause()
    seat.pause()
    assert not node.worker.is_read
    seat.resume()
    assert not node.worker.is_read
    second.channels.clear()
    node.slots.leave(second)
    assert node.worker.is_read


def test_a_worker_that_connects_when_its_server_is_gone_is_turned_away():
    relay = WorkerRelay(WorkerSpec("end.1", "end", "env", "", "token"), Link(1), SharedSlots())
    relay.detach()
    aborted = []
    worker = Transport()
    worker.abort = lambda: aborted.append(True)
    relay.connect(worker)
    assert aborted


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
