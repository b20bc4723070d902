"""The thread that writes logs: bounds of what a process can print, and what happens to a log meanwhile."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from openlaunch.engines import log_writer
from openlaunch.engines.log_lines import without_stamps
from openlaunch.engines.log_writer import LogPipe, LogWriter

DEADLINE = 20.0


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LogPipe]:
    writer = LogWriter()
    try:
        yield writer.open(path)
    finally:
        await writer.close()


async def print_to(pipe: LogPipe, *pieces: bytes) -> None:
    """Print as a process does, which waits while the pipe is full."""
    for piece in pieces:
        await asyncio.to_thread(os.write, pipe.sending, piece)


def printed(path: Path) -> str:
    """What is in the log, without the times of its lines."""
    return without_stamps(path.read_text())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_what_is_printed_is_in_the_log_at_the_end(path: Path) -> None:
    async def main() -> None:
        async with opened(path) as pipe:
            await print_to(pipe, b"one\n", b"two\n")
            pipe.close_sending()
            await pipe.ended()
            assert printed(path) == "one\ntwo\n"

    asyncio.run(main())


def test_a_line_of_the_servers_own_is_in_the_log_though_the_process_has_closed_its_output(path: Path) -> None:
    """Its descriptor is another file's by then."""

    async def main() -> None:
        async with opened(path) as pipe:
            await print_to(pipe, b"one\n")
            pipe.close_sending()
            await pipe.ended()
            with path.with_name("other").open("w+b") as other:
                pipe.note("it is killed")
                assert other.read() == b""
            assert printed(path) == "one\nopenlaunch server: it is killed\n"

    asyncio.run(main())


def test_what_was_printed_before_is_in_the_log_when_it_has_caught_up(path: Path) -> None:
    async def main() -> None:
        writer = LogWriter()
        try:
            pipe = writer.open(path)
            for number in range(100):
                os.write(pipe.sending, b"%d " % number)
                await asyncio.to_thread(writer.catch_up)
                assert printed(path).endswith(f"{number} ")
        finally:
            await writer.close()

    asyncio.run(main())


def test_a_log_that_is_full_keeps_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_WORKER_BYTES", 10_000)
    lines = [b"%09d\n" % number for number in range(5000)]

    async def main() -> None:
        async with opened(path) as pipe:
            await print_to(pipe, *(b"".join(lines[i : i + 100]) for i in range(0, 5000, 100)))
            pipe.close_sending()
            await pipe.ended()
            assert 5000 <= path.stat().st_size <= 10_000
            _, _, kept = printed(path).partition("\n")
            assert kept
            assert b"".join(lines).decode().endswith(kept)

    asyncio.run(main())


def test_who_prints_more_than_is_read_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "RATE", 1_000_000)

    async def main() -> float:
        async with opened(path) as pipe:
            began = asyncio.get_running_loop().time()
            await print_to(pipe, *[b"x" * 100_000] * 10)
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(main()) > 0.5


def test_a_pipe_that_is_held_open_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "REST_SECONDS", 0.05)

    async def main() -> None:
        async with opened(path) as pipe, asyncio.timeout(DEADLINE):
            await print_to(pipe, b"one\n")
            await pipe.ended()
            assert printed(path) == "one\n"

    asyncio.run(main())


def test_a_log_that_was_deleted_is_not_written(path: Path) -> None:
    async def main() -> None:
        async with opened(path) as pipe:
            path.unlink()
            await print_to(pipe, b"one\n")
            pipe.close_sending()
            await pipe.ended()
            assert not path.exists()

    asyncio.run(main())


def test_a_link_in_place_of_a_log_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    path.symlink_to(tmp_path / "secret")

    async def main() -> None:
        with pytest.raises(OSError, match="symbolic links"):
            async with opened(path):
                pass

    asyncio.run(main())
    assert (tmp_path / "secret").read_text() == "mine"
