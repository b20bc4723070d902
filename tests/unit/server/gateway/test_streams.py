"""A stream between its worker and its client: pieces, credit, and the client's connections."""

import asyncio
from collections.abc import Callable

from server_links import in_loop

from openlaunch.errors import Unavailable
from openlaunch.server.gateway.heartbeats import HEAD_TICKS, HEARTBEAT, SILENT_TICKS
from openlaunch.server.gateway.resumable import Replay
from openlaunch.server.gateway.streams import RESUMED, Stream, Streams
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.settings import Settings
from openlaunch.wire.sse import END_EVENT, LAST_EVENT_ID
from openlaunch_worker.frames import STREAM_WINDOW

ITEM = b"data: 1\n\n"
END = b"event: end\n\n"


class Client:
    """A client's connection, as a stream sees it."""

    def __init__(self) -> None:
        self.started = self.ended = self.dropped = self.disconnected = False
        self.write_paused = False
        self.got = b""
        self.headers: dict[str, str] = {}
        self.error: Exception | None = None
        self.on_gone: Callable[[], object] = lambda: None
        self.on_writable: Callable[[], None] = lambda: None

    def write(self, data: bytes, headers: dict[str, str]) -> None:
        if data:
            self.started, self.headers = True, headers
            self.got += data

    write_large = write

    def end(self, data: bytes, headers: dict[str, str]) -> None:
        self.write(data, headers)
        self.ended = True

    def guarded(self, call: Callable[[], None]) -> None:
        call()

    request_id = "req_1"

    def fail(self, error: Exception) -> None:
        self.error = error

    def drop(self) -> None:
        self.dropped = True


class Link:
    """The worker of the stream, as the stream sees it."""

    def __init__(self) -> None:
        self.cancelled, self.credited, self.read_at = False, 0, 1.0

    def cancel(self, request_id: int) -> None:
        self.cancelled = True

    def credit(self, request_id: int, size: int) -> None:
        self.credited += size

    def failed(self, name: str, reason: object) -> None:
        """A failure is counted."""


class Scene:
    """A stream that runs."""

    def __init__(self, *, resumable: bool) -> None:
        self.client, self.link = Client(), Link()
        self.streams = Streams(Settings(), Deadlines())
        replay = Replay("s", "me", "end") if resumable else None
        self.stream = Stream(
            self.streams,  # type: ignore[arg-type]
            self.client,  # type: ignore[arg-type]
            "ada",
            PredictInput(b"{}"),
            0.0,
            END_EVENT,
            replay,
        )
        self.client.on_gone = self.stream.gone

    def run(self) -> None:
        self.stream.started(self.link, 1)

    def is_held(self) -> bool:
        try:
            return self.streams.resumables.find("me", "end", b"s-0")[0] is self.stream
        except Exception:
            return False


@in_loop
async def test_what_comes_in_one_turn_of_the_loop_goes_out_in_one_write():
    scene = Scene(resumable=False)
    scene.run()
    scene.stream.chunk(ITEM)
    assert scene.client.got == ITEM
    scene.stream.chunk(ITEM)
    scene.stream.chunk(ITEM)
    assert scene.client.got == ITEM
    await asyncio.sleep(0)
    assert scene.client.got == ITEM * 3


@in_loop
async def test_a_slow_client_holds_the_worker_up():
    scene = Scene(resumable=False)
    scene.run()
    scene.client.write_paused = True
    scene.stream.chunk(b"x" * STREAM_WINDOW)
    assert scene.link.credited == 0
    scene.client.write_paused = False
    scene.client.on_writable()
    assert scene.link.credited == STREAM_WINDOW


@in_loop
async def test_an_error_before_the_first_piece_is_a_status_and_after_it_an_event():
    before, after = Scene(resumable=False), Scene(resumable=False)
    before.stream.refused(Unavailable("no worker"))
    assert str(before.client.error) == "no worker"
    after.run()
    after.stream.chunk(ITEM)
    after.stream.lost("was killed")
    assert after.client.error is None
    assert b'"status_code": 502' in after.client.got
    assert after.client.ended


@in_loop
async def test_a_stream_that_runs_sends_its_head_soon_and_a_comment_where_it_is_silent():
    scene = Scene(resumable=False)
    for _ in range(HEAD_TICKS):
        assert scene.stream.tick()
    assert not scene.client.started, "while it waits for a worker, it can still be refused with a status"
    scene.run()
    assert scene.stream.tick()
    assert scene.client.got == HEARTBEAT
    for _ in range(SILENT_TICKS):
        scene.stream.tick()
    assert scene.client.got == HEARTBEAT * 2
    scene.stream.chunk(ITEM)
    await asyncio.sleep(0)
    for _ in range(SILENT_TICKS - 1):
        scene.stream.tick()
    scene.client.write_paused = True
    scene.stream.tick()
    assert scene.client.got == HEARTBEAT * 2 + ITEM, "a client that does not read gets nothing more"
    scene.stream.finished(0, END)
    assert not scene.stream.tick()


@in_loop
async def test_a_stream_that_waits_sends_its_head_after_a_while():
    scene = Scene(resumable=False)
    for _ in range(SILENT_TICKS):
        scene.stream.tick()
    assert scene.client.got == HEARTBEAT


@in_loop
async def test_one_timer_looks_after_streams_until_they_end(monkeypatch):
    monkeypatch.setattr("openlaunch.server.gateway.heartbeats.TICK_SECONDS", 0.001)
    scene = Scene(resumable=False)
    scene.run()
    scene.streams.heartbeats.add(scene.stream)
    async with asyncio.timeout(10):
        while not scene.client.started:
            await asyncio.sleep(0.001)
    scene.stream.finished(0, END)
    async with asyncio.timeout(10):
        while scene.streams.heartbeats._ticks:
            await asyncio.sleep(0.001)


@in_loop
async def test_the_work_stops_when_a_client_that_can_not_resume_goes():
    scene = Scene(resumable=False)
    scene.run()
    scene.stream.chunk(ITEM)
    scene.client.on_gone()
    assert scene.link.cancelled
    assert scene.stream.cancelled


@in_loop
async def test_a_stream_can_be_resumed_from_when_it_has_a_worker():
    scene = Scene(resumable=True)
    assert not scene.is_held()
    scene.run()
    assert scene.is_held()


@in_loop
async def test_a_client_that_goes_before_the_first_event_will_not_resume():
    scene = Scene(resumable=True)
    scene.run()
    scene.client.on_gone()
    assert scene.link.cancelled
    assert not scene.is_held()


@in_loop
async def test_a_client_that_resumes_gets_what_it_missed_and_what_comes():
    scene, second = Scene(resumable=True), Client()
    scene.run()
    scene.stream.chunk(ITEM)
    scene.client.on_gone()
    scene.stream.chunk(ITEM)
    assert not scene.link.cancelled
    scene.stream.resume(second, 1)  # type: ignore[arg-type]
    assert second.got == RESUMED + b"id: s-2\n" + ITEM
    assert second.headers[LAST_EVENT_ID] == "s-1"
    scene.stream.finished(0, END)
    assert second.got.endswith(b"id: s-3\n" + END_EVENT)
    assert second.ended


@in_loop
async def test_what_was_sent_to_a_lost_client_is_not_credited_until_the_next_one_has_it():
    scene, second = Scene(resumable=True), Client()
    scene.run()
    scene.stream.chunk(ITEM)
    scene.client.on_gone()
    scene.stream.chunk(b"x" * STREAM_WINDOW + b"\n\n")
    assert scene.link.credited == 0
    scene.stream.resume(second, 1)  # type: ignore[arg-type]
    assert scene.link.credited >= STREAM_WINDOW


@in_loop
async def test_a_stream_that_is_resumed_after_its_end_is_sent_whole():
    scene, second = Scene(resumable=True), Client()
    scene.run()
    scene.stream.chunk(ITEM)
    scene.client.on_gone()
    scene.stream.finished(0, END)
    scene.stream.resume(second, 0)  # type: ignore[arg-type]
    assert second.got == RESUMED + b"id: s-1\n" + ITEM + b"id: s-2\n" + END_EVENT
    assert second.ended


@in_loop
async def test_another_connection_takes_the_place_of_the_one_there_is():
    scene, second = Scene(resumable=True), Client()
    scene.run()
    scene.stream.chunk(ITEM)
    scene.stream.resume(second, 1)  # type: ignore[arg-type]
    assert scene.client.dropped
    scene.stream.chunk(ITEM)
    await asyncio.sleep(0)
    assert second.got == RESUMED + b"id: s-2\n" + ITEM
