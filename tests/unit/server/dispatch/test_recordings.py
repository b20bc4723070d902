"""Recordings have bounds: of a line, of what waits, of what is kept, and of the time it is kept."""

from dataclasses import dataclass

import orjson
import pytest

from openlaunch.artifacts.base import Artifact
from openlaunch.server.dispatch.recordings import (
    DAY,
    MAX_LINE_BYTES,
    MAX_STREAMS,
    Sampler,
    _expired,
)
from openlaunch.wire.endpoint_settings import RecordSettings
from openlaunch_worker.frames import Flags, Outcome


@dataclass(eq=False)
class Request:
    """What a sampler needs of work."""

    body: bytes = b'{"args":\n 1}'
    flags: Flags = Flags.NONE
    name: str = "request req_1"
    owner: str = "ann"


def lines_of(share, work, *pieces, answer=b"2", outcome=Outcome.SUCCESS, is_stream=False):
    kept = []
    sampler = Sampler(share, kept.append)
    for piece in pieces:
        sampler.piece(work, piece)
    sampler.answered(work, outcome, answer, is_stream=is_stream)
    return [line.encoded() for line in kept]


def test_a_line_is_one_line_whatever_the_request_looked_like():
    (line,) = lines_of(1, Request())
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["input"] == {"args": 1}
    (line,) = lines_of(1, Request(), answer=b"NaN")
    assert orjson.loads(line)["answer"] == "NaN"
    deep = b"[" * 900 + b"%d" % 2**70 + b"]" * 900
    (line,) = lines_of(1, Request(), answer=deep)
    assert deep in line
    assert orjson.loads(line)


def test_an_answer_that_passed_through_whole_is_recorded_as_it_is():
    (line,) = lines_of(1, Request(), b'{"choices": ', answer=b"[1]}", is_stream=True)
    assert orjson.loads(line)["answer"] == {"choices": [1]}


def test_a_share_of_nothing_and_what_was_cancelled_leave_no_line():
    assert lines_of(0, Request()) == []
    assert lines_of(0, Request(), b"data: 1\n\n", is_stream=True) == []
    assert lines_of(1, Request(), outcome=Outcome.CANCELLED) == []


@pytest.mark.parametrize("pieces", [(b"x" * MAX_LINE_BYTES, b"y"), (b"x" * 100,) * 20_000])
def test_what_is_too_large_is_named_and_left_out(pieces):
    (line,) = lines_of(1, Request(), *pieces, is_stream=True)
    assert len(line) < 1000
    assert orjson.loads(line)["left_out"] is True


def test_streams_that_never_end_are_forgotten():
    sampler = Sampler(1, [].append)
    for _ in range(MAX_STREAMS + 10):
        sampler.piece(Request(), b"data: 1\n\n")
    assert len(sampler._streams) == MAX_STREAMS


def test_what_is_old_and_what_there_is_no_room_for_is_deleted():
    record = RecordSettings(max_bytes="2MiB", days=7)
    now = 100 * DAY
    files = [Artifact(f"recordings/e/{day:03}.jsonl", 1024**2, day * DAY) for day in (92, 98, 99, 100)]
    assert _expired(files, record, now) == ["recordings/e/098.jsonl", "recordings/e/092.jsonl"]
    assert _expired(files[:2], record, now) == ["recordings/e/092.jsonl"]
