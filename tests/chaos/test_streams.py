"""Honest streams: whatever breaks, what came is all there is, or an error says that it is not.

And a connection that breaks is not the end of a stream: `Last-Event-ID` goes on with it.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, pid_of, running, send_signal
from tcp_proxy import proxy_to

import openlaunch
from openlaunch import aio
from openlaunch.errors import StreamInterrupted
from openlaunch_worker.frames import STREAM_WINDOW

GRACE = 60.0
"""Longer than any test waits: what is there again before it has not waited for it."""

MIB = 2**20
FLAVOURS = ("blocking", "awaitable")
KINDS = tuple(itertools.product(FLAVOURS, (True, False)))


def count(n, pause=0.0, size=0, made=None):
    """Counts to n. `made` is a file that grows by a byte with each item; one with `.end` tells that it ended."""
    import os
    import pathlib
    import time

    file = None if made is None else pathlib.Path(made).open("ab", buffering=0)  # noqa: SIM115 -- closed below
    try:
        yield {"worker": f"{os.getcwd()}:{os.getpid()}", "text": "x" * size}
        for i in range(n):
            if file is not None:
                file.write(b".")
            yield i if not size else {"n": i, "text": "x" * size}
            if pause:
                time.sleep(pause)
    finally:
        if file is not None:
            file.close()
            pathlib.Path(made + ".end").touch()


async def acount(n, pause=0.0, size=0, made=None):
    for item in count(n, 0.0, size, made):
        yield item
        await asyncio.sleep(pause)


def break_after(n):
    yield from range(n)
    raise ValueError("broken model")


def deploy(client, function=count, **settings):
    name = function.__name__.replace("_", "-")
    wanted = {"endpoint_type": "streaming", "per_worker": 8, "max_workers": 1, **SMALL, **settings}
    return client.deploy(function, name=name, **wanted)


@pytest.fixture(scope="module")
def server():
    with running(stream_resume_seconds=GRACE, drain_seconds=1) as client:
        for function in (count, acount, break_after):
            deploy(client, function)
        yield client


@pytest.fixture
def proxy(server):
    with proxy_to(server.server.url) as proxy:
        yield proxy


class Both:
    """The same calls to either client, so that each test runs over both."""

    def __init__(self, flavour, key, url):
        self.runner = asyncio.Runner() if flavour == "awaitable" else None
        self.client = self.call(lambda: (aio if self.runner else openlaunch).LaunchClient(key, url))

    def call(self, function, *values, **options):
        if self.runner is None:
            return function(*values, **options)

        async def awaited():
            result = function(*values, **options)
            return await result if hasattr(result, "__await__") else result

        return self.runner.run(awaited())

    def stream(self, name="count", *, resume=True, **values):
        endpoint = self.call(self.client.get_model_endpoint, name)
        return self.call(endpoint.predict, args(**values), resume=resume)

    def next(self, stream):
        return self.call(next if self.runner is None else anext, stream)

    def rest(self, stream):
        if self.runner is None:
            return list(stream)

        async def collect():
            return [item async for item in stream]

        return self.runner.run(collect())

    def close(self):
        self.call(self.client.close)
        if self.runner is not None:
            self.runner.close()


@contextmanager
def connected(flavour, client, url=None):
    both = Both(flavour, client.server.api_key, url or client.server.url)
    try:
        yield both
    finally:
        both.close()


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param


def path_of(client, name="count"):
    return f"/v1/streaming-tasks?model_endpoint_id={client.get_model_endpoint(name).model_endpoint.id}"


# What ends a stream before its time.


def test_an_exception_after_items_is_the_last_item(server, flavour):
    for resume in (True, False):
        with connected(flavour, server) as both:
            *items, last = both.rest(both.stream("break-after", resume=resume, n=3))
        assert [item.value for item in items] == [0, 1, 2]
        assert (last.status, last.status_code) == ("FAILURE", 500)
        assert last.traceback.endswith("ValueError: broken model\n")


@contextmanager
def streams_of_all_kinds(client, url=None, kinds=KINDS):
    """Endless streams of one worker, which have given an item: of either client, to be resumed and not."""
    with ExitStack() as stack:
        found = []
        for flavour, resume in kinds:
            both = stack.enter_context(connected(flavour, client, url))
            stream = both.stream(resume=resume, n=1_000_000, pause=0.01)
            found.append((both, stream, both.next(stream).value["worker"]))
        yield found


def test_a_killed_worker_is_the_last_item(server):
    with streams_of_all_kinds(server) as streams:
        for worker in {worker for _, _, worker in streams}:
            send_signal(worker, signal.SIGKILL)
        began = time.monotonic()
        for both, stream, _ in streams:
            *_, last = both.rest(stream)
            assert (last.status, last.status_code) == ("FAILURE", 502)
            assert "killed by signal 9" in last.traceback
        assert time.monotonic() - began < 5


def test_a_server_that_stops_ends_what_does_not_end_by_itself_with_a_last_item():
    with running(drain_seconds=0.5) as client:
        deploy(client)
        with streams_of_all_kinds(client) as streams:
            os.kill(client.server.pid, signal.SIGTERM)
            for both, stream, _ in streams:
                *_, last = both.rest(stream)
                assert (last.status, last.status_code) == ("FAILURE", 503)
                assert "the server stopped" in last.traceback
        assert client.server._process.wait(DEADLINE) == 0


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_cut_connection_is_an_error_where_the_stream_is_not_to_be_resumed(server, proxy, flavour, reset):
    proxy.reset = reset
    with connected(flavour, server, proxy.url) as both:
        stream = both.stream(resume=False, n=1_000_000, pause=0.01)
        both.next(stream)
        both.next(stream)
        proxy.cut()
        with pytest.raises(StreamInterrupted, match="before its end"):
            both.rest(stream)


def test_a_killed_server_is_an_error_which_says_so_when_another_stands_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("openlaunch.client.operations.predictions.RESUME_SECONDS", 0.5)
    kinds = ((FLAVOURS[0], True), (FLAVOURS[1], True))
    with running(tmp_path) as client:
        deploy(client)
        with (
            proxy_to(client.server.url) as proxy,
            streams_of_all_kinds(client, kinds=kinds) as direct,
            streams_of_all_kinds(client, proxy.url, kinds) as proxied,
        ):
            os.kill(client.server.pid, signal.SIGKILL)
            client.server._process.wait(DEADLINE)
            for both, stream, _ in direct:
                with pytest.raises(StreamInterrupted, match="can't be resumed: no server can be reached"):
                    both.rest(stream)
            with running(tmp_path) as again:
                proxy.lead_to(again.server.url)
                for both, stream, _ in proxied:
                    with pytest.raises(StreamInterrupted, match="the server has been restarted"):
                        both.rest(stream)


# Slow readers.


def memory(pid):
    """MiB that the process has of its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":") for line in lines[1:])
    return sum(int(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["count", "acount"])
def test_a_reader_that_stops_holds_the_generator_and_costs_bounded_memory(server, tmp_path, name, resume):
    made, size = tmp_path / "made", 100_000
    endpoint = server.get_model_endpoint(name)
    with endpoint.predict(args(n=1_000_000, size=size, made=str(made)), resume=resume) as stream:
        worker = pid_of(next(stream).value["worker"])
        before = memory(server.server.pid), memory(worker)
        stands_still(made)
        for _ in range(300):
            next(stream)
        held = stands_still(made)
        # What was read, what the kernel's buffers of the two sockets may hold, and the window.
        assert 300 <= held < 300 + (socket_buffers() + 4 * MIB) / size
        grown = memory(server.server.pid) - before[0], memory(worker) - before[1]
        # The server holds 4 MiB of a stream that can be resumed.
        assert grown[0] < (12 if resume else 8)
        assert grown[1] < 4


def socket_buffers():
    """Bytes that the kernel may hold between two sockets, whose buffers grow with the rate of the reader."""
    return sum(int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")


def stands_still(file, seconds=0.3):
    """The size of a file, once it has not grown for so long."""
    sizes = []

    def settled():
        sizes.append((time.monotonic(), file.stat().st_size if file.exists() else 0))
        return sizes[-1][0] - next(at for at, size in sizes if size == sizes[-1][1]) > seconds

    eventually(settled)
    return sizes[-1][1]


# Going on.


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("name", ["count", "acount"])
def test_a_stream_that_is_cut_again_and_again_has_no_gap_and_no_repeat(server, proxy, flavour, name, reset):
    proxy.cut_after, proxy.reset = 7_001, reset
    with connected(flavour, server, proxy.url) as both:
        items = both.rest(both.stream(name, n=1000))
    assert [item.value for item in items[1:]] == list(range(1000))
    assert proxy.connections > 10


def test_a_stream_is_cut_while_it_waits_for_its_reader(server, proxy, flavour):
    """The server has sent far more by then than the client has seen, but no more than it holds."""
    with connected(flavour, server, proxy.url) as both:
        stream = both.stream(n=35, size=100_000)
        values = [both.next(stream).value for _ in range(3)]
        eventually(lambda: proxy.passed > 2 * MIB)
        proxy.cut()
        values += [item.value for item in both.rest(stream)]
    assert [value["n"] for value in values[1:]] == list(range(35))


def test_a_connection_that_carries_nothing_at_all_is_given_up(server, proxy, flavour):
    with connected(flavour, server, proxy.url) as both:
        stream = both.stream(n=1_000_000, pause=0.01)
        both.next(stream)
        proxy.cut_after = 300  # the head of an answer, and no event
        proxy.cut()
        began = proxy.connections
        with pytest.raises(StreamInterrupted, match="before its end"):
            both.rest(stream)
        assert proxy.connections - began <= 25


def test_leaving_a_stream_stops_it_at_once(server, flavour, tmp_path):
    made = tmp_path / "made"
    with connected(flavour, server) as both:
        stream = both.stream(n=1_000_000, pause=0.01, made=str(made))
        both.next(stream)
        both.call(stream.close)
        both.call(stream.close)
        eventually(Path(f"{made}.end").exists, GRACE / 4)


# The same as HTTP, for other clients.


class Raw:
    """Streams as bytes."""

    def __init__(self, client, raw, name="count"):
        self._raw = raw
        self.path = path_of(client, name)

    @contextmanager
    def open(self, last=None, key=None, **values):
        headers = {"openlaunch-resume": "true"} if last is None else {"last-event-id": last}
        auth = httpx2.BasicAuth(key, "") if key else httpx2.USE_CLIENT_DEFAULT
        with self._raw.stream(
            "POST", self.path, json={"args": values}, headers=headers, auth=auth
        ) as response:
            yield response, response.iter_lines()

    def refused(self, last, key=None):
        with self.open(last, key) as (response, _):
            response.read()
            return response.status_code, response.json()["code"]


@pytest.fixture
def raw(server):
    with http(server) as raw:
        yield Raw(server, raw)


def ids(lines, number=None):
    found = (line.removeprefix("id: ") for line in lines if line.startswith("id: "))
    return list(itertools.islice(found, number))


def test_a_stream_that_did_not_ask_is_as_it_was(server):
    with http(server) as raw:
        response = raw.post(path_of(server), json={"args": {"n": 2}})
    assert "last-event-id" not in response.headers
    lines = response.text.splitlines()
    assert {line.partition(":")[0] for line in lines} == {"data", ""}
    assert lines[-2:] == [": end", ""]


def test_events_are_numbered_and_a_further_request_goes_on_after_one(raw):
    with raw.open(n=1000) as (response, lines):
        assert response.headers["last-event-id"].endswith("-0")
        first = ids(lines, 5)
    with raw.open(last=first[2]) as (response, lines):
        assert response.headers["last-event-id"] == first[2]
        rest = ids(lines)
    stream = first[0].rpartition("-")[0]
    assert [*first[:3], *rest] == [f"{stream}-{n}" for n in range(1, 1003)]


def test_an_ended_stream_can_be_read_once_more(raw):
    with raw.open(n=3) as (response, lines):
        start, before = response.headers["last-event-id"], list(lines)
    with raw.open(last=start) as (_, lines):
        assert [line for line in lines if line != ": resumed"][1:] == before
    with raw.open(last=ids(before)[-1]) as (_, lines):
        assert ids(lines) == []


def test_the_newest_connection_has_the_stream(raw):
    with raw.open(n=1_000_000, pause=0.01) as (_, lines):
        first = ids(lines, 1)[0]
        with raw.open(last=first) as (_, others):
            assert ids(others, 1)[0].endswith("-2")
            with pytest.raises(httpx2.TransportError):
                list(lines)


def test_without_its_client_a_generator_is_held_before_it_is_a_window_ahead(raw, tmp_path):
    made, size = tmp_path / "made", 10_000
    with raw.open(n=1_000_000, pause=0.001, size=size, made=str(made)) as (_, lines):
        last = ids(lines, 3)[-1]
    left = made.stat().st_size
    held = stands_still(made)
    assert left < held <= left + 3 * STREAM_WINDOW / size
    with raw.open(last=last) as (_, lines):
        numbers = [int(event.rpartition("-")[2]) for event in ids(lines, held + 100)]
    assert numbers == list(range(4, held + 104))


@pytest.mark.parametrize("last", ["nonsense", "0123456789abcdef-1", "-", "0123456789abcdef-\u00b9".encode()])
def test_an_id_that_is_unknown_is_an_error_and_not_a_new_stream(raw, last):
    assert raw.refused(last) == (404, "stream_not_found")


def test_somebody_elses_stream_is_not_found(server, raw):
    with raw.open(n=1_000_000, pause=0.01) as (_, lines):
        last = ids(lines, 1)[0]
        other = server.create_api_key("somebody-else").api_key
        assert raw.refused(last, other) == (404, "stream_not_found")
        with http(server) as plain:
            elsewhere = Raw(server, plain, "acount")
            assert elsewhere.refused(last) == (404, "stream_not_found")
            assert (
                plain.delete(raw.path, headers={"last-event-id": last}, auth=(other, "")).status_code == 404
            )
        assert ids(lines, 1)[0].endswith("-2")


def test_events_that_were_never_made_are_not_waited_for(raw):
    with raw.open(n=1_000_000, pause=0.01) as (_, lines):
        stream = ids(lines, 1)[0].rpartition("-")[0]
        assert raw.refused(f"{stream}-999999") == (404, "event_not_held")


def test_a_client_says_that_it_will_not_come_back(server, raw, tmp_path):
    made = tmp_path / "made"
    with http(server) as plain:
        with raw.open(n=1_000_000, pause=0.01, made=str(made)) as (_, lines):
            last = {"last-event-id": ids(lines, 1)[0]}
            assert plain.delete(raw.path, headers=last).json() == {"cancelled": True}
            with pytest.raises(httpx2.TransportError):
                list(lines)
        eventually(Path(f"{made}.end").exists, GRACE / 4)
        assert plain.delete(raw.path, headers=last).status_code == 404
        with raw.open(n=1) as (_, lines):
            last = {"last-event-id": ids(lines)[-1]}
        assert plain.delete(raw.path, headers=last).json() == {"cancelled": False}


def test_a_wrong_header_is_refused(server):
    with http(server) as raw:
        path = path_of(server)
        answer = raw.post(path, json={"args": {"n": 1}}, headers={"openlaunch-resume": "yes"})
        assert (answer.status_code, "'yes'" in answer.json()["detail"]) == (400, True)
        assert raw.delete(path).json()["code"] == "missing_parameter"


@pytest.fixture(scope="module")
def impatient():
    """Waits for a client for half a second, and holds next to nothing."""
    with running(stream_resume_seconds=0.5, stream_replay_bytes=2000) as client:
        deploy(client)
        yield client


def test_a_client_that_does_not_come_back_in_time_has_lost_its_stream(impatient, tmp_path):
    made = tmp_path / "made"
    with http(impatient) as plain:
        raw = Raw(impatient, plain)
        with raw.open(n=1_000_000, pause=0.01, made=str(made)) as (_, lines):
            last = ids(lines, 2)[-1]
        eventually(Path(f"{made}.end").exists, 10)
        assert raw.refused(last) == (404, "stream_not_found")


def test_an_ended_stream_is_forgotten_in_time(impatient):
    with http(impatient) as plain:
        raw = Raw(impatient, plain)
        with raw.open(n=2) as (_, lines):
            last = ids(lines)[0]
        eventually(lambda: raw_is_forgotten(raw, last), 10)


def raw_is_forgotten(raw, last):
    with raw.open(last) as (response, _):
        response.read()
        return response.status_code == 404


def test_events_past_the_bound_are_not_held(impatient):
    with http(impatient) as plain:
        raw = Raw(impatient, plain)
        with raw.open(n=100, pause=0.001) as (_, lines):
            seen = ids(lines, 60)
            assert raw.refused(seen[0]) == (404, "event_not_held")


def test_the_client_says_that_it_came_back_too_late(impatient, flavour, tmp_path):
    made = tmp_path / "made"
    with proxy_to(impatient.server.url) as proxy, connected(flavour, impatient, proxy.url) as both:
        stream = both.stream(n=1_000_000, pause=0.01, made=str(made))
        both.next(stream)
        proxy.cut()
        eventually(Path(f"{made}.end").exists)
        with pytest.raises(StreamInterrupted, match=r"its client left, or it ended, more than 0\.5 s ago"):
            both.rest(stream)
