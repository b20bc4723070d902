"""A worker on a node and the servers that use it, of which the links and the socket are recorded."""

import asyncio
from functools import wraps

from openlaunch.agent.shared_slots import SharedSlots
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.documents import WorkerSpec
from openlaunch.nodes.calls import LEFT, NEWS
from openlaunch.nodes.link import TOKENS
from openlaunch_worker.frames import (
    SEAT_IDS,
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
