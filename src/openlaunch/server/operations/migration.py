"""Moves artifacts between a folder and a bucket, for a server that is stopped."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from openlaunch.artifacts.base import Artifact, Artifacts
from openlaunch.artifacts.locations import FOLDERS
from openlaunch.errors import ConfigurationError, NotFound

AT_ONCE = 8


@dataclass(slots=True)
class CopyReport:
    """How many artifacts there are, of how many bytes, and how many of them were copied now."""

    count: int = 0
    bytes: int = 0
    copied: int = 0


async def copy_artifacts(source: Artifacts, target: Artifacts) -> CopyReport:
    """Copy what the target has not, or not the same; every byte of the target is read again and compared by SHA-256.

    It can be run again after it was broken off. What the target has beside this is left there.

    Raises ConfigurationError where the target gives back other bytes than it was given.
    """
    report = CopyReport()
    for folder in FOLDERS:
        async for page in source.pages(folder):
            for start in range(0, len(page), AT_ONCE):
                some = page[start : start + AT_ONCE]
                copied = await asyncio.gather(*(_copy(source, target, artifact) for artifact in some))
                report.count += len(some)
                report.bytes += sum(artifact.size for artifact in some)
                report.copied += sum(copied)
    return report


async def _copy(source: Artifacts, target: Artifacts, artifact: Artifact) -> bool:
    """Copy one, and return True; False: it was there."""
    key = artifact.key
    if await _size(target, key) == artifact.size and await _digest(source, key) == await _digest(target, key):
        return False
    read = hashlib.sha256()
    await target.put(key, _summed(source.stream(key), read))
    if await _digest(target, key) != read.hexdigest():
        raise ConfigurationError(
            f"the artifact {key!r} is not the same after it was copied: look at the target, and run this again"
        )
    return True


async def _size(artifacts: Artifacts, key: str) -> int | None:
    try:
        return await artifacts.size(key)
    except NotFound:
        return None


async def _digest(artifacts: Artifacts, key: str) -> str:
    digest = hashlib.sha256()
    async for _ in _summed(artifacts.stream(key), digest):
        pass
    return digest.hexdigest()


async def _summed(pieces: AsyncIterator[bytes], digest: "hashlib._Hash") -> AsyncIterator[bytes]:
    async for piece in pieces:
        digest.update(piece)
        yield piece
