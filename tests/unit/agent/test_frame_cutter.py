"""Where what comes over a connection is cut: small frames are given whole, whatever parts they come in."""

import pytest

from openlaunch.agent.frame_cutter import SMALL_BYTES, FrameCutter
from openlaunch_worker.frames import CREDIT_BODY, HEADER, Kind, encode

CREDIT = encode(Kind.CREDIT, 7, CREDIT_BODY.pack(5))


@pytest.mark.parametrize("cut", range(1, len(CREDIT)))
def test_a_small_frame_is_given_whole_wherever_it_is_cut(cut: int) -> None:
    cutter = FrameCutter()
    assert list(cutter.cut(CREDIT[:cut])) == []
    (piece,) = cutter.cut(CREDIT[cut:])
    assert (piece.kind, piece.request_id, piece.data) == (Kind.CREDIT, 7, CREDIT)
    assert piece.begins
    assert piece.ends


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 1000])
def test_nothing_is_lost_whatever_parts_frames_come_in(size: int) -> None:
    frames = encode(Kind.RESULT, 1, bytes(size)) + CREDIT + encode(Kind.CHUNK, 2, bytes(size))
    for step in range(1, len(frames) + 1):
        cutter = FrameCutter()
        pieces = [piece for at in range(0, len(frames), step) for piece in cutter.cut(frames[at : at + step])]
        assert b"".join(piece.data for piece in pieces) == frames
        assert sum(piece.begins for piece in pieces) == sum(piece.ends for piece in pieces) == 3
        assert all(len(piece.data) >= HEADER.size for piece in pieces if piece.begins)
