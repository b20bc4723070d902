"""The caches of uv: one for each owner, bounded, and gone with the owner's last environment."""

import asyncio
import os
import time
from contextlib import AsyncExitStack

import pytest

from openlaunch.engines.uv_caches import UvCaches

MIB = 1024**2


@pytest.fixture
def caches(tmp_path):
    return UvCaches(tmp_path / "caches", max_bytes=MIB)


def fill(*owners, caches, size, fails=False):
    """Builds of these owners at the same time, each of which writes this much; the caches that they were given."""

    async def main():
        async with AsyncExitStack() as stack:
            given = [await stack.enter_async_context(caches.of(owner)) for owner in owners]
            for number, cache in enumerate(given):
                (cache / f"file-{number}").write_bytes(b"x" * size)
            if fails:
                raise OSError("the build fails")
        return given

    return asyncio.run(main())


def test_owners_have_caches_of_their_own(caches):
    ours, theirs = fill("ours", "theirs", caches=caches, size=1)
    assert ours != theirs
    assert [path.name for path in ours.iterdir()] == ["file-0"]


def test_a_cache_is_kept_for_the_next_build(caches):
    fill("ours", caches=caches, size=1)
    (cache,) = fill("ours", caches=caches, size=1)
    assert (cache / "file-0").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_a_full_cache_is_emptied_once_no_build_uses_it(caches, tmp_path, fails):
    try:
        fill("ours", "ours", caches=caches, size=MIB, fails=fails)
    except OSError:
        assert fails
    assert list((tmp_path / "caches").glob("owner-*")) == []


def test_a_cache_goes_with_its_owner_a_day_after_its_last_build(caches, tmp_path):
    ours, theirs = fill("ours", "theirs", caches=caches, size=1)
    (tmp_path / "caches" / "of-somebody-else").mkdir()
    caches.prune({"ours"})
    assert theirs.exists()
    for cache in (ours, theirs):
        os.utime(cache, (0, time.time() - 90_000))
    caches.prune({"ours"})
    left = sorted(path.name for path in (tmp_path / "caches").glob("[!.]*"))
    assert left == ["of-somebody-else", ours.name]
