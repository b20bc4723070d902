"""Server-sent events: any split of the bytes gives the same events, and no stream can fill the memory."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.wire.sse import END_COMMENT, END_EVENT, Event, SSEParser


def parse(*chunks: bytes, bound: int = 10_000) -> list[Event]:
    parser = SSEParser(bound)
    return [event for chunk in chunks for event in parser.feed(chunk)]


LINES = st.lists(
    st.sampled_from(
        [
            b"data: one",
            b"data:two",
            b"data",
            b"data:  indented",
            b"event: end",
            b"id: 7",
            b"retry: 10",
            b": a comment",
            "data: grüße 🚀".encode(),
            b"data: \xff\xfe",
            b"unknown: field",
            b"",
            b"",
        ]
    ),
    max_size=30,
)


@given(lines=LINES, ending=st.sampled_from([b"\n", b"\r\n"]), cuts=st.lists(st.integers(0, 500), max_size=20))
def test_any_split_gives_the_same_events(lines, ending, cuts):
    stream = ending.join([*lines, b"", b""])
    borders = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    chunks = [stream[a:b] for a, b in pairwise(borders)]
    assert parse(*chunks) == parse(stream)


@given(values=st.lists(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5)))
def test_what_is_sent_as_json_comes_back(values):
    items = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    for ending in (END_EVENT, END_COMMENT):
        *found, end = parse(*(bytes([byte]) for byte in items + ending))
        assert [json.loads(item.data) for item in found] == values
        assert end.name == "end"


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event("a")]),
        (b"data:a\n\n", [Event("a")]),
        (b"data:  a\n\n", [Event(" a")]),
        (b"data: a: b\n\n", [Event("a: b")]),
        (b"data: a\ndata: b\n\n", [Event("a\nb")]),
        (b"data\n\n", [Event("")]),
        (b"event: end\ndata: {}\n\n", [Event("{}", name="end")]),
        (b"event: end\n\n", [Event("", name="end")]),
        (b"event: end\n\ndata: a\n\n", [Event("", name="end"), Event("a")]),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [Event("a", id="1"), Event("b", id="1")]),
        (b": ping\n\n", []),
        (b": end\n\n", [Event("", name="end")]),
        (b": ending\n\n", []),
        (b"\n\n\n", []),
        (b"data: a\r\n\r\n", [Event("a")]),
        (b"data: \xff\n\n", [Event("\ufffd")]),
    ],
)
def test_the_rules_of_the_format(stream, events):
    assert parse(stream) == events


def test_an_event_that_is_cut_is_not_given():
    assert parse(b"data: a\n\ndata: b\n") == [Event("a")]


def test_events_that_were_not_taken_come_with_the_next_bytes():
    parser = SSEParser()
    assert next(parser.feed(b"data: a\n\ndata: b\n\n")) == Event("a")
    assert list(parser.feed(b"")) == [Event("b")]


@pytest.mark.parametrize(
    "chunk",
    [
        b"data: " + b"x" * 200,
        b"data: " + b"x" * 200 + b"\n",
        b"data: xxxxxxxx\n" * 20,
        b"data\n" * 200,
        b":" * 200,
    ],
    ids=["unfinished line", "line", "many lines", "many empty lines", "comment"],
)
def test_an_event_over_the_bound_is_refused(chunk):
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        parse(chunk, bound=100)


def test_the_bound_is_for_one_event_not_for_the_stream():
    assert len(parse(b"data: xxxxxxxx\n\n" * 100, bound=100)) == 100
