"""What is told of disks, clocks and an event loop that is held up; and the clock that can't be set."""

from datetime import UTC, datetime

import pytest

from openlaunch.server.clock import SteadyClock
from openlaunch.server.operations.health import MIB, clock_check, disk_check, disk_room, lag_check, with_since
from openlaunch.wire.health import Check, CheckStatus

GIB = 1024 * MIB


def room(free, size=100 * GIB, no_files_left=False, read_only=False):
    return disk_room(free=free, size=size, no_files_left=no_files_left, read_only=read_only)


@pytest.mark.parametrize(
    ("free", "size", "status"),
    [
        (50 * GIB, 100 * GIB, CheckStatus.OK),
        (900 * MIB, 100 * GIB, CheckStatus.WARNING),
        (20 * MIB, 100 * GIB, CheckStatus.FAILED),
        (16 * MIB, 32 * MIB, CheckStatus.OK),  # a small disk is not full because it is small
        (2 * MIB, 32 * MIB, CheckStatus.WARNING),
        (0, 32 * MIB, CheckStatus.FAILED),
    ],
)
def test_a_disk_is_full_by_what_is_free_or_by_its_part(free, size, status):
    assert room(free, size).status is status


def test_a_disk_that_takes_no_more_files_has_failed():
    assert "inodes" in room(50 * GIB, no_files_left=True).detail


def test_a_read_only_disk_has_failed():
    assert "read-only" in room(50 * GIB, read_only=True).detail


def test_the_disk_of_a_folder_is_looked_at(tmp_path):
    assert disk_check(tmp_path).name == "disk"


@pytest.mark.parametrize(
    ("seconds", "status"), [(0.01, CheckStatus.OK), (1, CheckStatus.WARNING), (7, CheckStatus.WARNING)]
)
def test_a_loop_is_late_by_degrees(seconds, status):
    assert lag_check(seconds).status is status


@pytest.mark.parametrize(("seconds", "word"), [(3600, "forward"), (-3600, "back")])
def test_a_clock_that_was_set_is_told_with_its_way(seconds, word):
    assert word in clock_check(seconds).detail
    assert "3600 s" in clock_check(seconds).detail


def test_small_corrections_of_the_clock_are_not_told():
    assert clock_check(0.3).status is CheckStatus.OK


def test_a_check_that_is_not_ok_says_since_when_it_is_as_it_is():
    seen, before = [], []
    for minute, status in enumerate(("ok", "warning", "warning", "failed", "warning", "ok")):
        before = with_since(
            [Check(name="disk", status=status), Check(name="clock")],
            before,
            datetime(2026, 5, 4, 9, minute, tzinfo=UTC),
        )
        seen.append([check.since and check.since.minute for check in before])
    assert seen == [[None, None], [1, None], [1, None], [3, None], [4, None], [None, None]]


def test_the_steady_clock_passes_but_is_not_set():
    wall, passed = [1000.0], [5.0]
    clock = SteadyClock(lambda: wall[0], lambda: passed[0])
    assert clock.now() == 1000.0
    wall[0], passed[0] = 4610.0, 15.0
    assert clock.now() == 1010.0
    assert clock.was_set_by() == 3600.0
    wall[0] = 10.0
    assert clock.now() == 1010.0
    assert clock.was_set_by() == -1000.0
    clock.correct(-60.0)
    assert clock.now() == 950.0
    assert clock.was_set_by() == -1000.0
