"""Tasks in the background."""

import asyncio
import logging

import pytest

from openlaunch.background import BackgroundTasks


async def fail() -> None:
    raise ValueError("the reason")


def test_an_error_is_logged_with_what_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        tasks = BackgroundTasks("counting sheep failed")
        await asyncio.wait({tasks.spawn(fail())})
        await asyncio.sleep(0)
        assert not tasks

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "counting sheep failed" in caplog.text
    assert "ValueError: the reason" in caplog.text


def test_stop_cancels_what_runs_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        tasks = BackgroundTasks("sleeping failed")
        task = tasks.spawn(asyncio.sleep(60))
        assert tasks
        await tasks.stop()
        assert task.cancelled()
        assert not tasks

    asyncio.run(main())
    assert caplog.text == ""
