"""A worker that sends what it likes: it ends its own link, with a reason, and only its own requests fail."""

import json
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from server_links import START, FakeWorker, Pieces, WaitedCall, in_loop

from openlaunch.errors import ServerError
from openlaunch.server.dispatch.answer_rules import MAX_FAILURE_BYTES, check_failure
from openlaunch.server.dispatch.frame_link import SMALL_BYTES
from openlaunch.server.prediction.results import is_success
from openlaunch_worker import answers
from openlaunch_worker.failures import Refusal, explain, one_line
from openlaunch_worker.frames import (
    CREDIT_BODY,
    HEADER,
    MIN_CHUNK_BYTES,
    STREAM_WINDOW,
    Flags,
    Kind,
    Outcome,
    encode,
)

MIB = 1 << 20
LIMIT = START.limits.max_result_bytes
CALL, PICKLE, STREAM = 1, 2, 3
"""The ids of the requests that a busy worker runs."""


class Busy:
    """A worker that runs a call, a call whose value is to be pickled, and a stream."""

    def __init__(self, *, serves: bool = True) -> None:
        self.worker = FakeWorker("w", slots=4)
        self.call, self.pickle, self.stream = WaitedCall(), WaitedCall(flags=Flags.PICKLED), Pieces()
        if serves:
            self.worker.join()
            for work in (self.call, self.pickle, self.stream):
                self.worker.link.send_work(work)
        self.worker.frames()

    def send(self, data: bytes) -> "Busy":
        for start in range(0, len(data), 256 * 1024):
            if not self.worker.wire.closed:
                self.worker.link.data_received(data[start : start + 256 * 1024])
        return self

    @property
    def broke(self) -> str:
        assert self.worker.wire.closed == bool(self.worker.link.broke)
        return self.worker.link.broke

    def held(self) -> int:
        """Bytes of frames that have not come whole, and of the stream."""
        pieces = sum(len(piece) for piece in self.stream.seen if isinstance(piece, bytes))
        return len(self.worker.link._parser._buffer) + pieces


def failure(**changes: object) -> bytes:
    document = {"status": "FAILURE", "result": None, "traceback": "no", "status_code": 500}
    return bytes([Outcome.FAILURE]) + json.dumps(document | changes).encode()


def success(body: bytes = b"{}") -> bytes:
    return bytes([Outcome.SUCCESS]) + body


REFUSED = {
    "unknown kind": encode(99, 0),
    "server's kind": encode(Kind.REQUEST, 1),
    "hello twice": encode(Kind.HELLO, 0, b'{"token": "w"}'),
    "ready twice": encode(Kind.READY, 0, b"{}"),
    "load failed after ready": encode(Kind.LOAD_FAILED, 0, b'{"reason": "no"}'),
    "heard of nothing": encode(Kind.HEARD, CALL),
    "unknown request": encode(Kind.RESULT, 9, success()),
    "unknown stream": encode(Kind.CHUNK, 9, b"x"),
    "no outcome": encode(Kind.RESULT, CALL),
    "unknown outcome": encode(Kind.RESULT, CALL, b"\x09"),
    "answered twice": encode(Kind.RESULT, CALL, success()) * 2,
    "ended twice": encode(Kind.END, STREAM, success()) * 2,
    "result of a stream": encode(Kind.RESULT, STREAM, success()),
    "end of a call": encode(Kind.END, CALL, success()),
    "chunk of a call": encode(Kind.CHUNK, CALL, b"x"),
    "batch of a worker without batches": encode(Kind.BATCH, 0, CREDIT_BODY.pack(1)),
    "progress of a call": encode(Kind.PROGRESS, CALL, b"{}"),
    "partial value of nothing": encode(Kind.PARTIAL, 9, b"1"),
    "a wish for contexts too late": encode(Kind.WANTS_CONTEXT, 0),
    "chunk after the end": encode(Kind.END, STREAM, success()) + encode(Kind.CHUNK, STREAM, b"x"),
    "pickle not asked for": encode(Kind.RESULT, CALL, bytes([Outcome.PICKLED])),
    "pickled stream": encode(Kind.END, STREAM, bytes([Outcome.PICKLED])),
    "cancelled unasked": encode(Kind.RESULT, CALL, bytes([Outcome.CANCELLED])),
    "stream cancelled unasked": encode(Kind.END, STREAM, bytes([Outcome.CANCELLED])),
    "bytes of a cancelled one": encode(Kind.RESULT, CALL, bytes([Outcome.CANCELLED]) + b"x"),
    "asleep unasked": encode(Kind.ASLEEP, 0),
    "awake unasked": encode(Kind.AWAKE, 0),
    "unserved with bytes": encode(Kind.RESULT, CALL, bytes([Outcome.UNSERVED]) + b"x"),
    "unserved after its beginning": encode(Kind.CHUNK, STREAM, b"x")
    + encode(Kind.END, STREAM, bytes([Outcome.UNSERVED])),
    "status code an object": encode(Kind.RESULT, CALL, failure(status_code={})),
    "status code a bool": encode(Kind.RESULT, CALL, failure(status_code=True)),
    "status code negative": encode(Kind.RESULT, CALL, failure(status_code=-1)),
    "status code huge": encode(Kind.RESULT, CALL, failure(status_code=1 << 63)),
    "traceback a list": encode(Kind.RESULT, CALL, failure(traceback=[])),
    "traceback no text": encode(Kind.RESULT, CALL, failure(traceback="\ud800")),
    "failure that says more": encode(Kind.RESULT, CALL, failure(more=[[]] * 300_000)),
    "failure with a result": encode(Kind.RESULT, CALL, failure(result=[])),
    "error that says more": encode(
        Kind.RESULT, CALL, failure(error={"type": "x", "message": "x", "more": [[]]})
    ),
    "events without end": encode(Kind.CHUNK, STREAM, b"\n\n" * 10_000),
    "events without end, as the last ones": encode(Kind.END, STREAM, success(b"\n\n" * 10_000)),
    "failure a list": encode(Kind.RESULT, CALL, bytes([Outcome.FAILURE]) + b"[]"),
    "failure deep": encode(Kind.RESULT, CALL, bytes([Outcome.FAILURE]) + b"[" * 9000),
    "failure of a stream": encode(Kind.END, STREAM, bytes([Outcome.FAILURE]) + b"data: {}\n\n"),
    "large failure": encode(Kind.RESULT, CALL, failure(traceback="x" * MAX_FAILURE_BYTES)),
    "value over the limit": encode(Kind.RESULT, CALL, success(b"x" * (LIMIT + 2000))),
    "pickle over the limit": encode(Kind.RESULT, PICKLE, bytes([Outcome.PICKLED]) + b"x" * (LIMIT + 2000)),
    "result refused by its head": HEADER.pack(900 * MIB, CALL, Kind.RESULT),
    "end refused by its head": HEADER.pack(2 * LIMIT + MIB, STREAM, Kind.END),
    "chunk refused by its head": HEADER.pack(2 * LIMIT + MIB, STREAM, Kind.CHUNK),
    "unknown request by its head": HEADER.pack(100, 9, Kind.RESULT),
    "unknown kind by its head": HEADER.pack(100, 0, 77),
    "leaving twice": encode(Kind.LEAVING, 0) * 2,
    "unhealthy twice": encode(Kind.UNHEALTHY, 0) * 2,
    "large leaving": HEADER.pack(SMALL_BYTES + 1, 0, Kind.LEAVING),
    "length of -1": HEADER.pack(0xFFFFFFFF, CALL, Kind.RESULT),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
@in_loop
async def test_what_a_worker_may_not_send_ends_its_link_and_says_why(data):
    other = Busy()
    busy = Busy()
    busy.worker.owner.leaving = busy.worker.owner.unhealthy = lambda reason: None
    assert busy.send(data).broke.startswith("broke the protocol: ")
    assert other.send(encode(Kind.RESULT, CALL, success())).call.answer.done()
    assert not other.broke


@pytest.mark.parametrize(
    "data",
    [
        encode(Kind.RESULT, 1, success()),
        encode(Kind.HEARD, 0),
        encode(Kind.READY, 0) * 2,
        encode(Kind.LOAD_FAILED, 0, b'{"reason": {}}'),
        encode(Kind.LOAD_FAILED, 0, b'{"reason": "no", "traceback": 1}'),
        encode(Kind.LOAD_FAILED, 0, b"[]"),
        encode(Kind.HELLO, 0, b'{"token": "w"}'),
        HEADER.pack(SMALL_BYTES + 1, 0, Kind.READY),
        HEADER.pack(2 * MAX_FAILURE_BYTES, 0, Kind.LOAD_FAILED),
    ],
)
@in_loop
async def test_a_worker_that_is_not_ready_says_nothing_else(data):
    assert Busy(serves=False).send(data).broke


@in_loop
async def test_after_load_failed_there_is_no_ready():
    busy = Busy(serves=False)
    busy.worker.owner.load_failed = lambda *_: None
    busy.send(encode(Kind.LOAD_FAILED, 0, b'{"reason": "no", "traceback": null}'))
    assert not busy.broke
    assert busy.send(encode(Kind.READY, 0)).broke


@pytest.mark.parametrize("size", [0, 1, 1000, STREAM_WINDOW, MIB])
@in_loop
async def test_a_stream_ends_that_is_sent_beyond_its_credit(size):
    busy = Busy()
    for _ in range(2 + STREAM_WINDOW // max(size, MIN_CHUNK_BYTES)):
        busy.send(encode(Kind.CHUNK, STREAM, b"x" * size))
    assert "credit" in busy.broke
    assert busy.held() <= STREAM_WINDOW + size


@in_loop
async def test_a_chunk_beyond_its_credit_is_refused_by_its_head():
    busy = Busy().send(encode(Kind.CHUNK, STREAM, b"x" * STREAM_WINDOW))
    assert not busy.broke
    assert "credit" in busy.send(HEADER.pack(MIB, STREAM, Kind.CHUNK)).broke


@in_loop
async def test_a_stream_whose_client_takes_it_has_no_end_of_credit():
    busy = Busy()
    for _ in range(20):
        busy.send(encode(Kind.CHUNK, STREAM, b"x" * STREAM_WINDOW))
        busy.stream.passed_on(STREAM_WINDOW)
    assert not busy.broke


@in_loop
async def test_a_cancelled_request_needs_no_value():
    busy = Busy()
    busy.call.abandon()
    assert not busy.send(encode(Kind.RESULT, CALL, bytes([Outcome.CANCELLED]))).broke
    assert CALL not in busy.worker.link.running


@in_loop
async def test_a_value_at_the_limit_is_taken_however_much_of_it_has_to_be_escaped():
    value = '"' * ((LIMIT - 2) // 2)
    busy = Busy().send(encode(Kind.RESULT, CALL, success(answers.success(value, LIMIT))))
    assert not busy.broke
    assert busy.call.answer.done()


@in_loop
async def test_an_item_at_the_limit_is_taken_as_a_chunk_and_as_the_last_one():
    item = answers.event("x" * (LIMIT - 2), LIMIT)
    busy = Busy().send(encode(Kind.CHUNK, STREAM, b"x" * (STREAM_WINDOW - 1)))
    busy.send(encode(Kind.CHUNK, STREAM, item))
    assert not busy.send(encode(Kind.END, STREAM, success(item + answers.END_EVENT))).broke


@in_loop
async def test_the_longest_failure_is_taken():
    text = "\U0001f600" * 64 * 1024
    busy = Busy().send(encode(Kind.RESULT, CALL, bytes([Outcome.FAILURE]) + answers.failure(text, 500)))
    assert not busy.broke


@in_loop
async def test_a_worker_that_answers_what_it_does_not_read_is_not_sent_more_and_more():
    worker = FakeWorker("w", slots=1).join()
    worker.wire.get_write_buffer_size = lambda: len(worker.wire.written)  # type: ignore[method-assign]
    worker.link.pause_writing()
    for number in range(1, 100):
        if worker.wire.closed:
            break
        worker.link.send_work(WaitedCall(b"x" * 100_000))
        worker.link.data_received(encode(Kind.RESULT, number, success()))
    assert "does not read" in worker.link.broke
    assert len(worker.wire.written) < 2 * MIB


ids = st.sampled_from([0, CALL, PICKLE, STREAM, 4, 0xFFFFFFFF])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(
    st.sampled_from(["token", "pid", "reason", "traceback", "status", "result", "status_code"]),
    json_values | st.just(500),
    max_size=5,
).map(lambda value: json.dumps(value).encode())
bodies = st.one_of(
    st.binary(max_size=40),
    documents,
    documents.map(lambda data: b"data: " + data + b"\n\n"),
    st.integers(1, 3000).map(lambda n: b"[" * n),
    st.integers(1, 300_000).map(lambda n: b"x" * n),
)
payloads = bodies | st.builds(lambda outcome, body: bytes([outcome]) + body, st.integers(0, 4), bodies)
kinds = st.sampled_from([int(kind) for kind in Kind]) | st.integers(0, 255)
frames = st.builds(encode, kinds, ids, payloads)
heads = st.builds(HEADER.pack, st.integers(0, 0xFFFFFFFF), ids, kinds)


@settings(max_examples=300)
@given(st.lists(frames | heads | st.binary(max_size=20), max_size=10), st.booleans())
@example([encode(Kind.CHUNK, STREAM, b"x" * 300_000)] * 10, True)
def test_any_frames_of_a_worker_harm_nobody_else(sent, serves):
    @in_loop
    async def main() -> None:
        other, busy = Busy(), Busy(serves=serves)
        busy.worker.owner.load_failed = lambda *_: None
        busy.worker.owner.leaving = busy.worker.owner.unhealthy = lambda reason: None
        for data in sent:
            busy.send(data)
        # Each request has ended, or is known as running and fails with the worker.
        works = {CALL: busy.call, PICKLE: busy.pickle, STREAM: busy.stream}
        for request_id, work in works.items():
            assert not serves or work.cancelled or busy.worker.link.running.get(request_id) is work
        assert busy.held() <= 2 * LIMIT + MIB + 2 * STREAM_WINDOW + 300_000
        if busy.broke:
            assert len(busy.broke) < 200
        other.send(encode(Kind.RESULT, CALL, success()))
        assert other.call.answer.result() == (Outcome.SUCCESS, b"{}")

    main()


def test_a_frame_that_never_ends_is_kept_only_up_to_its_limit():
    @in_loop
    async def main() -> None:
        tracemalloc.start()
        busy = Busy().send(HEADER.pack(2 * LIMIT, CALL, Kind.RESULT))
        for _ in range(100):
            busy.send(b"x" * 256 * 1024)
        assert busy.broke
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
        tracemalloc.stop()

    main()


class TestTheFormOfAnswers:
    @pytest.mark.parametrize("value", [None, 1, "x", 'a "quoted" \\ one', {"a": ["\n", "é", "\ud800"]}])
    def test_what_workers_make_has_it(self, value):
        assert is_success(answers.success(value, MIB))

    @pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB])
    @pytest.mark.parametrize("text", ["x", '"', "\\", 'x"'])
    def test_large_ones_have_it(self, text, size):
        assert is_success(answers.success(text * (size // len(text)), 8 * MIB))

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b'"',
            b"1",
            b"[[[[[[",
            b'"a" "b"',
            b'"1"}, "traceback": null, "status_code": 200}, {"task_id": "another", "result": {"result": "2"',
            b'"\xff"',
            b'"\\"',
            b'"a\nb"',
            b'"' + b"x" * MIB + b'", "y": "' + b"x" * MIB + b'"',
        ],
    )
    def test_what_would_say_something_of_other_answers_has_it_not(self, text):
        assert not is_success(answers.HEAD + text + answers.TAIL)
        assert not is_success(text)


@pytest.mark.parametrize("frame", [encode(Kind.RESULT, CALL, failure()), encode(Kind.END, STREAM, failure())])
@in_loop
async def test_a_fault_of_the_server_ends_one_request_and_not_its_worker(frame, monkeypatch, caplog):
    def fault(*_: object) -> None:
        raise RuntimeError("a fault of the server's own")

    monkeypatch.setattr("openlaunch.server.dispatch.links.check_answer", fault)
    busy = Busy().send(frame)
    assert busy.broke == ""
    ended, other = (CALL, PICKLE) if frame[4] == CALL else (STREAM, CALL)
    assert ended not in busy.worker.link.running, "its slot is free"
    assert other in busy.worker.link.running
    error = busy.call.answer.exception() if ended == CALL else busy.stream.seen[-1]
    assert isinstance(error, ServerError)
    assert f"failed on the request {error.request_id}" in caplog.text
    monkeypatch.undo()
    busy.send(encode(Kind.RESULT, PICKLE, success()))
    assert busy.pickle.answer.result() == (Outcome.SUCCESS, b"{}")


class Odd(SyntaxError):
    """Shown with attributes that are whatever its raiser has set."""


ANY_TEXT = st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=50).map("".join)


KINDS = st.sampled_from(["plain", "group", "syntax", "refusal"])


@given(text=ANY_TEXT, name=ANY_TEXT, note=ANY_TEXT, foreign=st.booleans(), kind=KINDS)
@example("caf\udce9", "caf\udce9", "caf\udce9", False, "group")
@example("x", "x", "x", False, "syntax")
@settings(max_examples=60)
def test_whatever_text_an_error_has_its_failure_is_an_answer(text, name, note, foreign, kind):
    cls = type("E", (Exception,), {"__qualname__": name, "__module__": "m"})
    error: BaseException = cls(text)
    if kind == "group":
        error = ExceptionGroup(text or "g", [cls(text), ValueError(text)])
    elif kind == "syntax":
        error = Odd(text, (name, "line", object(), note))
    elif kind == "refusal":
        error = Refusal(text)
    error.add_note(note)
    body = answers.failure(*explain(error, foreign=foreign))
    check_failure(body)
    for shown in (json.loads(body)["traceback"], one_line(error)):
        shown.encode()  # raises for what UTF-8 can't hold
