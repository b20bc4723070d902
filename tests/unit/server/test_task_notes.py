"""What a worker may say of a task before its end: what is not a note, or too much, is refused."""

import pytest

from openlaunch.server.queue.notes import FREE_NOTES, KEPT_BYTES, KEPT_PARTIALS, NOTES_A_SECOND, TaskNotes
from openlaunch_worker.context import MAX_PARTIALS
from openlaunch_worker.frames import FrameError, Kind

PROGRESS = b'{"fraction": 0.5, "text": "half"}'


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.PARTIAL, b"{"),
        (Kind.PARTIAL, b"NaN"),
        (Kind.PROGRESS, b"[]"),
        (Kind.PROGRESS, b'{"fraction": 2.0, "text": ""}'),
        (Kind.PROGRESS, b'{"fraction": "a", "text": ""}'),
        (Kind.PROGRESS, b'{"fraction": 0.5, "text": "%b"}' % (b"x" * 201)),
    ],
)
def test_what_is_not_a_note_is_refused(kind, payload):
    with pytest.raises(FrameError):
        TaskNotes("ada").add(kind, payload)


def said(notes, kind, payloads):
    for payload in payloads:
        notes.add(kind, payload)


def test_progress_beyond_the_rate_is_refused():
    notes = TaskNotes("ada")
    with pytest.raises(FrameError, match="more of a request"):
        said(notes, Kind.PROGRESS, [PROGRESS] * (FREE_NOTES + 100 * NOTES_A_SECOND))


def test_the_last_partial_values_are_kept_and_their_number_is_bounded():
    notes = TaskNotes("ada")
    with pytest.raises(FrameError, match="more of a request"):
        said(notes, Kind.PARTIAL, [b"%d" % number for number in range(MAX_PARTIALS + 1)])
    assert len(notes.partials) == KEPT_PARTIALS
    assert notes.last("t").partial == b"%d" % (MAX_PARTIALS - 1)
    assert [number for number, _ in notes.partials] == sorted({number for number, _ in notes.partials})


def test_large_partial_values_push_out_older_ones():
    notes = TaskNotes("ada")
    for _ in range(40):
        notes.add(Kind.PARTIAL, b'"%b"' % (b"x" * 60_000))
    assert notes.size <= KEPT_BYTES
    notes.begin(object())
    assert (notes.size, notes.progress, list(notes.partials)) == (0, None, [])
