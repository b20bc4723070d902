"""Image jobs on an agent's node: containers, which outlive the agent as they do a server."""

import json
from dataclasses import replace
from typing import Final

from openlaunch.agent.server_link import ServerLink
from openlaunch.engines.base import Jobs
from openlaunch.engines.documents import ContainerState
from openlaunch.nodes import calls

MAX_LINES_BYTES: Final = 8 * 1024 * 1024
"""Limit on the lines of a job that are sent at once."""


class AgentJobs:
    """Does for servers with the same records what the node's engine does for a server of its own machine."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._held: dict[str, set[str]] = {}
        """The jobs that hold something, by the records that they are in."""

    async def hold(self, link: ServerLink, asked: calls.HeldJob) -> str:
        held = await self._jobs.hold(asked.job_id, asked.resources)
        self._held.setdefault(link.records, set()).add(asked.job_id)
        return held

    async def keep(self, link: ServerLink, asked: list[calls.HeldJob]) -> None:
        own = {each.job_id for each in asked}
        ids = await self._jobs.ids(link.records)
        if left := [job_id for job_id in ids if job_id not in own]:
            await self._jobs.remove(*left)
        for job_id in {*left, *self._held.get(link.records, ())} - own:
            await self._jobs.release(job_id)
        self._held[link.records] = own
        for each in asked:
            self._jobs.resume(each.job_id, each.held, each.resources)

    async def start(self, link: ServerLink, asked: calls.JobStart) -> None:
        """Start a job, unless an earlier call has, whose answer was lost."""
        state = await self._jobs.state(asked.job.id)
        if state is None or not state.started:
            await self._jobs.fetch(asked.job.image)
            await self._jobs.remove(asked.job.id)
            await self._jobs.start(replace(asked.job, records=link.records), asked.held)

    async def state(self, link: ServerLink, job_id: str) -> ContainerState | None:
        return await self._jobs.state(job_id)

    async def wait(self, link: ServerLink, job_id: str) -> None:
        await self._jobs.wait(job_id)

    async def lines(self, link: ServerLink, asked: calls.JobLines) -> list[str]:
        lines, left = await self._jobs.logs(asked.job_id, asked.lines), MAX_LINES_BYTES
        for number in range(len(lines) - 1, -1, -1):
            left -= len(json.dumps(lines[number]))
            if left < 0:
                return lines[number + 1 :]
        return lines

    async def stop(self, link: ServerLink, job_id: str) -> None:
        await self._jobs.stop(job_id)

    async def remove(self, link: ServerLink, job_ids: list[str]) -> None:
        await self._jobs.remove(*job_ids)

    async def release(self, link: ServerLink, job_id: str) -> None:
        self._held.get(link.records, set()).discard(job_id)
        await self._jobs.release(job_id)
