"""When triggers are due."""

from datetime import UTC, datetime

import pytest

from openlaunch.server.jobs.triggers import BadSchedule, last_time, next_time


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/5 * * * *", "2026-11-24T02:00:00", "2026-11-24T02:05:00"),
        ("*/5 * * * *", "2026-11-24T02:04:59", "2026-11-24T02:05:00"),
        ("30 4 * * 1", "2026-11-24T00:00:00", "2026-11-30T04:30:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_the_next_time_comes_after(schedule, after, expected):
    assert next_time(schedule, at(after)) == at(expected)


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-11-24T02:05:00", "2026-11-24T02:05:00"),
        ("2026-11-24T02:09:59", "2026-11-24T02:05:00"),
        ("2026-11-24T02:04:59", "2026-11-24T02:00:00"),
    ],
)
def test_the_last_time_may_be_now(until, expected):
    assert last_time("*/5 * * * *", at(until)) == at(expected)


def test_what_is_no_schedule_says_why_and_gives_an_example():
    with pytest.raises(
        BadSchedule, match=r"'61 \* \* \* \*' is not a cron schedule \(bad minute\): .* such as '30 4"
    ):
        next_time("61 * * * *", 0)
