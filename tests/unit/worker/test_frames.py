from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch_worker.frames import HEADER, FrameError, FrameParser, encode

frames = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 0xFFFFFFFF), st.binary(max_size=300)), max_size=12
)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(frames, st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_frames(sent, cuts):
    data = b"".join(encode(kind, request_id, payload) for kind, request_id, payload in sent)
    parser = FrameParser()
    got = [frame for piece in split(data, cuts) for frame in parser.feed(piece)]
    assert got == sent


@given(frames)
def test_one_byte_at_a_time_gives_the_same_frames(sent):
    data = b"".join(encode(kind, request_id, payload) for kind, request_id, payload in sent)
    parser = FrameParser()
    assert [frame for i in range(len(data)) for frame in parser.feed(data[i : i + 1])] == sent


def test_a_consumer_that_stops_half_way_loses_no_frame():
    parser = FrameParser()
    first = parser.feed(encode(1, 1, b"a") + encode(2, 2, b"b"))
    assert next(first) == (1, 1, b"a")
    first.close()
    assert list(parser.feed(b"")) == [(2, 2, b"b")]


def test_a_frame_over_the_limit_is_refused_before_its_bytes_come():
    parser = FrameParser(max_payload=10)
    with pytest.raises(FrameError, match="a frame of 11 bytes is over the limit of 10 bytes"):
        list(parser.feed(HEADER.pack(11, 1, 1)))


def test_a_frame_at_the_limit_is_taken():
    assert list(FrameParser(max_payload=10).feed(encode(1, 1, b"x" * 10))) == [(1, 1, b"x" * 10)]


def test_an_empty_payload_is_a_frame():
    assert list(FrameParser().feed(encode(17, 0))) == [(17, 0, b"")]
