"""A worker that several servers use: wherever what they send is cut, frames stay whole and find their way."""

import random

import pytest
from shared_worker import BODY, Link, Node, Transport, in_loop

from openlaunch.agent.shared_slots import SharedSlots
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.documents import WorkerSpec
from openlaunch.nodes.link import Kind as LinkKind
from openlaunch_worker.frames import (
    SEAT_IDS,
    FrameError,
    Kind,
    encode,
)


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
