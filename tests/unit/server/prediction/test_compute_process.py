"""Why a call of a process apart has failed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from openlaunch.errors import APIError
from openlaunch.server.prediction.compute_process import MEMORY_BYTES, ProcessApart
from openlaunch_worker.frames import LARGE_BYTES


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessApart]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    process = ProcessApart("dying_process")
    yield process
    process.stop()


@pytest.mark.parametrize(
    ("name", "argument", "status", "code", "said"),
    [
        ("end", signal.SIGALRM, 422, "too_costly", "takes over 10 s"),
        ("end", signal.SIGABRT, 422, "too_costly", "takes over 2 GiB of memory"),
        ("end", signal.SIGSEGV, 422, "too_deep", "nested too deep"),
        ("end", signal.SIGKILL, 503, "check_ended", "try again"),
        ("leave", 1, 503, "check_ended", "try again"),
        ("sleep", 60, 422, "too_costly", "takes over 10 s"),
        ("allocate", MEMORY_BYTES + 1, 422, "too_costly", "takes over 2 GiB of memory"),
        ("without_end", 0, 422, "too_deep", "nested too deep"),
        ("deep", 100_000, 422, "too_deep", "nested too deep"),
    ],
)
def test_a_failed_call_says_its_cause_and_the_next_one_is_answered(
    process: ProcessApart, name: str, argument: int, status: int, code: str, said: str
) -> None:
    with pytest.raises(APIError, match=said) as caught:
        process.call(name, argument)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert process.call("pid") > 0


def test_modules_of_the_current_folder_are_not_taken_for_those_of_python(
    process: ProcessApart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert process.call("pid") > 0


def test_large_bytes_come_in_the_buffer_into_which_they_were_read(process: ProcessApart) -> None:
    """To make bytes of a pickle would hold Python's lock, and the event loop up."""
    for size, kind in ((LARGE_BYTES - 1, bytes), (LARGE_BYTES, bytearray)):
        alone, (_, within) = process.call("bytes", size), process.call("bytes_in_a_tuple", size)
        assert (type(alone), type(within)) == (kind, kind)
        assert len(alone) == len(within) == size


def test_a_process_that_was_ended_while_idle_is_started_again(process: ProcessApart) -> None:
    first = process.call("pid")
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert process.call("pid") != first


def test_one_that_can_not_be_started_is_not_said_to_be_costly(
    process: ProcessApart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(APIError, match="could not be started: try again") as caught:
        process.call("pid")
    assert caught.value.status == 503
