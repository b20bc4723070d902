from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch_worker.frames import COPY_BYTES, HEADER, FrameError, FrameParser, encode

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


def refuse_large(kind: int, request_id: int, length: int) -> None:
    if length > 10:
        raise FrameError(f"{(kind, request_id, length)} is refused")


@pytest.mark.parametrize("more", [b"", b"x"])
def test_a_frame_is_refused_by_its_head_before_its_bytes_come(more):
    parser = FrameParser(refuse_large)
    with pytest.raises(FrameError, match=r"\(3, 2, 11\) is refused"):
        list(parser.feed(HEADER.pack(11, 2, 3) + more))


def test_a_large_frame_is_refused_that_comes_whole():
    with pytest.raises(FrameError, match="is refused"):
        list(FrameParser(refuse_large).feed(encode(3, 2, b"x" * COPY_BYTES)))


def test_a_frame_that_passes_is_taken_in_pieces():
    data = encode(1, 1, b"x" * 10)
    parser = FrameParser(refuse_large)
    assert list(parser.feed(data[:12])) == []
    assert list(parser.feed(data[12:])) == [(1, 1, b"x" * 10)]


def test_an_empty_payload_is_a_frame():
    assert list(FrameParser().feed(encode(17, 0))) == [(17, 0, b"")]
