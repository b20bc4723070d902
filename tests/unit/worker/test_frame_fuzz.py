"""Any bytes at both ends of a worker's connection: they end that connection at most, and nothing else."""

import asyncio
import json
import socket
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from server_links import Owner, Pieces, WaitedCall, Wire

from openlaunch.errors import WorkerDied
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch_worker.documents import Limits
from openlaunch_worker.frames import REQUEST_HEAD, FrameError, Kind, encode
from openlaunch_worker.handshake import receive_bundle, shake_hands
from openlaunch_worker.hooks import Hooks
from openlaunch_worker.serving import Connection
from openlaunch_worker.threads import ThreadPool

FEW = settings(max_examples=150)

deep = st.integers(1, 5000).map(lambda n: b"[" * n + b"]" * n)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
names = ("token", "pid", "reason", "traceback", "python", "bundle", "per_worker", "streaming", "container")
objects = st.dictionaries(st.sampled_from(names), json_values, max_size=6)
payloads = st.one_of(
    st.binary(max_size=60),
    objects.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    deep,
    st.builds(REQUEST_HEAD.pack, st.integers(0, 2**16 - 1), st.floats()),
    st.builds(
        lambda flags, limit, body: REQUEST_HEAD.pack(flags, limit) + body,
        st.integers(0, 255),
        st.floats(),
        st.binary(max_size=20) | json_values.map(lambda value: json.dumps({"args": value}).encode()),
    ),
)
kinds = st.sampled_from([int(kind) for kind in Kind]) | st.integers(0, 255)
frames = st.builds(encode, kinds, st.integers(0, 3), payloads)
streams = st.lists(frames | st.binary(max_size=30), max_size=8).map(b"".join)


class Told(Owner):
    """Is told what happens."""

    def __init__(self):
        super().__init__(slots=2)
        self.ready_times = self.closed_times = 0

    def ready(self, link):
        assert link.worker_id
        self.ready_times += 1

    def heard(self, link):
        raise AssertionError("nothing was cancelled")

    def leaving(self, reason):
        pass

    def worn(self, reason):
        pass

    def unhealthy(self, reason):
        pass

    def load_failed(self, reason, traceback):
        assert isinstance(reason, str)
        assert traceback is None or isinstance(traceback, str)

    def closed(self, link):
        self.closed_times += 1


@FEW
@given(streams, st.booleans())
@example(encode(Kind.RESULT, 1), True)
@example(encode(Kind.RESULT, 1, b"\xff"), True)
@example(encode(Kind.READY, 0) * 2, True)
@example(encode(Kind.LOAD_FAILED, 0, b"[]"), True)
def test_what_a_worker_sends_ends_its_link_at_most(data, ready):
    async def main():
        owner, wire = Told(), Wire()
        link = WorkerLink(owner)
        link.connection_made(wire)
        works = [WaitedCall(), Pieces()]
        if ready:
            link.data_received(encode(Kind.READY, 0, b"{}"))
            for work in works:
                link.send_work(work)
        link.data_received(data)
        await asyncio.sleep(0)
        assert owner.ready_times <= 1
        # Each request has been answered, or is still known as running: none is lost.
        if ready:
            ended = [works[0].answer.done(), works[1].cancelled]
            assert ended == [1 not in link.running, 2 not in link.running]
        for work in link.running.values():
            work.lost("died")
        if ready and works[0].answer.done() and works[0].answer.exception() is not None:
            assert isinstance(works[0].answer.exception(), WorkerDied)
        link.connection_lost(None)
        assert owner.closed_times == 1

    asyncio.run(main())


@pytest.fixture(scope="module")
def limits():
    return Limits(2, 10_000, 10_000, 1.0, False)


@FEW
@given(data=streams)
@example(data=encode(Kind.REQUEST, 1, REQUEST_HEAD.pack(0, float("nan")) + b'{"args": {}}'))
@example(data=encode(Kind.REQUEST, 1, REQUEST_HEAD.pack(0, float("inf")) + b'{"args": {}}'))
@example(data=encode(Kind.REQUEST, 1, REQUEST_HEAD.pack(255, -1.0) + b'{"args": {}}') * 3)
@example(data=encode(Kind.REQUEST, 1, REQUEST_HEAD.pack(0, 1.0) + b"[" * 5000 + b"]" * 5000))
def test_what_a_server_sends_ends_the_workers_connection_at_most(limits, data):
    async def predict(**values):
        return 1

    ended = []

    async def main():
        nonlocal data
        wire = Closing()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connection = Connection(ours, predict, Hooks(), limits, ThreadPool(1), ended.append)
            connection.connection_made(wire)
            while data:
                room = connection.get_buffer(-1)
                size = min(len(room), len(data))
                room[:size] = data[:size]
                data = data[size:]
                connection.buffer_updated(size)
            for _ in range(5):
                await asyncio.sleep(0)
            connection.connection_lost(None)

    asyncio.run(main())
    assert len(ended) == 1


class Closing(Wire):
    def close(self):
        self.closed = True

    def pause_reading(self):
        """What is read is given by the test."""

    def set_write_buffer_limits(self, high):
        """Nothing is kept."""


@FEW
@given(streams)
@example(encode(Kind.START, 0, b"[]"))
@example(encode(Kind.START, 0, b"[" * 5000 + b"]" * 5000))
@example(encode(Kind.START, 0, b'{"per_worker": 1e999}'))
def test_a_handshake_that_is_none_is_an_error_that_the_worker_expects(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = threading.Thread(target=send_and_close, args=(theirs, data))
        sending.start()
        try:
            shake_hands(ours, "token")
            receive_bundle(ours, open_nothing())
        except (OSError, FrameError):
            pass
        finally:
            ours.close()
            sending.join()


def send_and_close(sock, data):
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has heard enough


def open_nothing():
    import io

    return io.BytesIO()
