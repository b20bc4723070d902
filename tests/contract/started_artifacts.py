"""Artifacts in a bucket, as a server starts with them."""

import asyncio

from openlaunch.artifacts.bucket import BucketArtifacts


def started(url: str, owner: str = "us") -> BucketArtifacts:
    async def start() -> BucketArtifacts:
        artifacts = BucketArtifacts(url)
        await artifacts.start(owner)
        return artifacts

    return asyncio.run(start())
