"""What every artifact store does: a folder (obstore's local store), obstore's memory, buckets of real servers."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import uvloop
from obstore.store import MemoryStore

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.bucket import BucketArtifacts
from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.artifacts.objects import ObjectArtifacts
from openlaunch.errors import BadRequest, NotFound, PayloadTooLarge, Unavailable

LARGE = bytes(range(256)) * (12 << 12)  # 12 MiB: more than one part of a multipart upload


SCHEMES = {"s3": "s3", "azure": "az"}


@pytest.fixture(params=["folder", "memory", "s3", pytest.param("azure", marks=pytest.mark.slow)])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "artifacts")
    if request.param == "memory":
        return ObjectArtifacts(MemoryStore())
    for name, value in request.getfixturevalue(request.param).environ.items():
        monkeypatch.setenv(name, value)
    return BucketArtifacts(f"{SCHEMES[request.param]}://artifacts/{secrets.token_hex(8)}")


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def pieces(data: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def broken(data: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(data):
        yield piece
    raise ValueError("the source broke")


async def assert_missing(artifacts: Artifacts, key: str) -> None:
    with pytest.raises(NotFound, match=key):
        await artifacts.get(key)
    with pytest.raises(NotFound, match=key):
        await artifacts.size(key)
    with pytest.raises(NotFound, match=key):
        await anext(artifacts.stream(key))


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
def test_what_was_put_comes_back(artifacts: Artifacts, data: bytes) -> None:
    async def test() -> None:
        for key, source in (("bundles/a-1_2.pkl", data), ("tasks/b", pieces(data))):
            assert await artifacts.put(key, source) == len(data)
            assert await artifacts.get(key) == data
            assert await artifacts.size(key) == len(data)
            assert b"".join([piece async for piece in artifacts.stream(key)]) == data

    run(test())


def test_a_stream_comes_in_pieces(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", LARGE)
        sizes = [len(piece) async for piece in artifacts.stream("k", piece=1 << 20)]
        assert len(sizes) >= 3
        assert max(sizes) <= 4 << 20

    run(test())


def test_a_stream_may_be_left_half_way(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", LARGE)
        async for _ in artifacts.stream("k"):
            break
        await artifacts.delete("k")
        await assert_missing(artifacts, "k")

    run(test())


@pytest.mark.parametrize("sent", [b"", b"x" * 10, LARGE], ids=["nothing", "little", "much"])
def test_a_source_that_breaks_leaves_nothing(artifacts: Artifacts, tmp_path: Path, sent: bytes) -> None:
    async def test() -> None:
        with pytest.raises(ValueError, match="the source broke"):
            await artifacts.put("k", broken(sent))
        await assert_missing(artifacts, "k")
        assert not any(files for _, _, files in os.walk(tmp_path))

    run(test())


def test_a_source_that_breaks_leaves_what_was_there(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", b"before")
        with pytest.raises(ValueError, match="the source broke"):
            await artifacts.put("k", broken(LARGE))
        assert await artifacts.get("k") == b"before"

    run(test())


def test_a_put_that_is_cancelled_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    async def test() -> None:
        started = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield LARGE
            started.set()
            await asyncio.Event().wait()

        putting = asyncio.create_task(artifacts.put("k", stuck()))
        await started.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await assert_missing(artifacts, "k")
        while any(files for _, _, files in os.walk(tmp_path)):
            await asyncio.sleep(0.01)

    run(test())


def test_a_second_put_replaces_the_first(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", LARGE)
        await artifacts.put("k", b"new")
        assert await artifacts.get("k") == b"new"

    run(test())


def test_a_reader_of_replaced_bytes_sees_one_version(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", LARGE)
        reading = artifacts.stream("k")
        read = await anext(reading)
        await artifacts.put("k", b"new")
        try:
            read += b"".join([piece async for piece in reading])
        except Unavailable:
            return
        assert read == LARGE

    run(test())


def test_delete(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("a/k", b"1")
        await artifacts.put("a/l", b"2")
        await artifacts.delete("a/k")
        await artifacts.delete("a/k")
        await artifacts.delete("never/there")
        await assert_missing(artifacts, "a/k")
        assert await artifacts.get("a/l") == b"2"

    run(test())


def test_many_are_deleted_at_once(artifacts: Artifacts) -> None:
    async def test() -> None:
        for key in ("a/1", "a/3", "b"):
            await artifacts.put(key, b"1")
        await artifacts.delete("a/1", "a/2", "a/3", "c")
        await artifacts.delete()
        assert [page async for page in artifacts.pages("a")] == []
        assert await artifacts.get("b") == b"1"

    run(test())


def test_no_more_is_read_than_was_asked_for(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("k", b"12345")
        assert await artifacts.get("k", limit=5) == b"12345"
        with pytest.raises(PayloadTooLarge, match="5 bytes"):
            await artifacts.get("k", limit=4)

    run(test())


def test_a_prefix_is_no_key(artifacts: Artifacts) -> None:
    async def test() -> None:
        await artifacts.put("a/b/c", b"1")
        await assert_missing(artifacts, "a/b")
        await artifacts.delete("a/b")
        assert await artifacts.get("a/b/c") == b"1"

    run(test())


BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../up",
    "a/../../up",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden",
    "a\\b",
    "a b",
    "a\n",
    "a\0b",
    "a%2f..",
    "é",
    "\udcff",
    "a" * 201,
    "/".join("a" * 11),
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_key_is_refused(artifacts: Artifacts, tmp_path: Path, key: str) -> None:
    async def test() -> None:
        for use in (artifacts.put(key, b"x"), artifacts.get(key), artifacts.size(key), artifacts.delete(key)):
            with pytest.raises(BadRequest) as refused:
                await use
            assert refused.value.code == "bad_key"
        with pytest.raises(BadRequest):
            await anext(artifacts.stream(key))
        assert not any(files for _, _, files in os.walk(tmp_path))

    run(test())


def test_artifacts_are_listed_by_folder(artifacts: Artifacts) -> None:
    async def test() -> None:
        began = time.time()
        for key in ("a/one", "a/deep/two", "ab/other", "b/three"):
            await artifacts.put(key, b"12345")
        found = [each async for page in artifacts.pages("a") for each in page]
        assert sorted((each.key, each.size) for each in found) == [("a/deep/two", 5), ("a/one", 5)]
        assert all(began - 5 < each.stored_at < time.time() + 5 for each in found)
        assert [page async for page in artifacts.pages("none")] == []

    run(test())
