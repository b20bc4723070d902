"""A worker's connection that goes from one server to the next, wherever it is cut: both ends see whole frames."""

import random

import pytest

from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.base import LeftWork
from openlaunch_worker.frames import FrameParser, Kind, encode

BODY = bytes(range(256)) * 300


class Link:
    """A server's link: what it was sent, and where it began."""

    def __init__(self):
        self.data = b""
        self.left = None
        self.closed = False

    def open_channel(self, token, end, left=None):
        self.left = left
        return 7

    def send_data(self, number, data):
        assert number == 7
        self.data += data

    def close_channel(self, number):
        self.closed = True

    def frames(self):
        return [(kind, number) for kind, number, _ in FrameParser().feed(self.data)]


class Transport:
    """A worker's socket: what it was sent."""

    def __init__(self):
        self.data = b""

    def set_protocol(self, protocol):
        pass

    def write(self, data):
        self.data += data

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    resume_reading = pause_reading


def request(number, body=BODY):
    return encode(Kind.REQUEST, number, bytes(9) + body)


def connected():
    relay, link, worker = WorkerRelay(link := Link(), "token"), link, Transport()
    relay.connect(worker)
    return relay, link, worker


TO_WORKER = b"".join(
    (
        encode(Kind.START, 0, b"{}"),
        encode(Kind.BUNDLE, 0, b"bundle"),
        encode(Kind.BUNDLE, 0),
        request(1, b"{}"),
        request(2),
        encode(Kind.CANCEL, 1),
        request(3, b"{}"),
    )
)
FROM_WORKER = b"".join(
    (
        encode(Kind.READY, 0, b"{}"),
        encode(Kind.HEARD, 1),
        encode(Kind.RESULT, 1, b"\3"),
        encode(Kind.CHUNK, 2, b"piece"),
        encode(Kind.RESULT, 2, b"\0" + BODY),
    )
)


@pytest.mark.parametrize("seed", range(200))
def test_the_next_server_begins_at_a_frame_wherever_the_last_one_ended(seed):
    chance = random.Random(seed)
    relay, first, worker = connected()
    cut = chance.randrange(len(TO_WORKER) + 1)
    back = chance.randrange(len(FROM_WORKER) + 1)
    for data, at, take in ((TO_WORKER, cut, relay.receive), (FROM_WORKER, back, relay.data_received)):
        middle = chance.randrange(at + 1)
        take(data[:middle])
        take(data[middle:at])
    relay.detach()
    relay.attach(second := Link(), "new")
    relay.data_received(FROM_WORKER[back:])
    relay.receive(request(4, b"{}"))

    # Each server has seen a beginning of the frames, and the second nothing of what the first one had begun to read.
    assert FROM_WORKER.startswith(first.data)
    whole = first.frames()
    everything = [(kind, number) for kind, number, _ in FrameParser().feed(FROM_WORKER)]
    seen = second.frames()
    assert seen == everything[len(everything) - len(seen) :]
    assert len(everything) - len(seen) - len(whole) in (0, 1)
    # The worker has whole frames, of which the last are those of the second server.
    told = [(kind, number) for kind, number, _ in FrameParser().feed(worker.data)]
    assert told[-1] == (Kind.REQUEST, 4)
    asked = {number for kind, number in told[:-1] if kind == Kind.REQUEST}
    cancelled = [number for kind, number in told if kind == Kind.CANCEL]
    answered = {n for kind, n in everything[: len(everything) - len(seen)] if kind == Kind.RESULT}
    left = second.left
    assert isinstance(left, LeftWork)
    assert set(left.running) == asked - answered
    assert set(left.running) <= set(cancelled)
    heard = sum(kind == Kind.HEARD for kind, _ in everything[: len(everything) - len(seen)])
    assert left.unheard == len(cancelled) - heard
    assert left.last_id == max(asked, default=0)
    assert left.ready == ((Kind.READY, 0) not in seen)


def test_only_a_worker_that_has_its_bundle_and_stays_can_be_kept():
    relay, _, _ = connected()
    assert not relay.may_be_kept
    relay.receive(encode(Kind.BUNDLE, 0, b"bundle"))
    assert not relay.may_be_kept
    relay.receive(encode(Kind.BUNDLE, 0))
    assert relay.may_be_kept
    relay.receive(encode(Kind.DRAIN, 0))
    assert not relay.may_be_kept


def test_one_that_asks_to_leave_is_not_kept():
    relay, _, _ = connected()
    relay.receive(encode(Kind.BUNDLE, 0))
    relay.data_received(encode(Kind.LEAVING, 0, b"its memory is used up"))
    assert not relay.may_be_kept


def test_a_worker_that_connects_when_its_server_is_gone_is_turned_away():
    relay = WorkerRelay(Link(), "token")
    relay.detach()
    aborted = []
    worker = Transport()
    worker.abort = lambda: aborted.append(True)
    relay.connect(worker)
    assert aborted
