"""Which server may have a worker of a node."""

import asyncio

import pytest

from openlaunch.agent.held_workers import HeldWorker, HeldWorkers
from openlaunch.agent.server_link import ServerLink
from openlaunch.agent.shared_slots import SharedSlots
from openlaunch.agent.worker_relay import WorkerRelay
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import WorkerSpec
from openlaunch.nodes.calls import Adopt


def link_of(records):
    link = ServerLink(None, "127.0.0.1")
    link.records = records
    return link


def test_a_server_neither_adopts_nor_claims_a_worker_of_other_records():
    async def main():
        leader, other, next_leader = link_of("ours"), link_of("theirs"), link_of("ours")
        spec = WorkerSpec("end.1", "end", "env", "", "token", slots=1)
        held = HeldWorkers(60, lambda worker_id: None, lambda records: True)
        worker = HeldWorker(spec, WorkerRelay(spec, leader, SharedSlots()), "ours", leader)
        held.add(worker)
        with pytest.raises(EngineError, match="other records"):
            held.claim("end.1", other)
        with pytest.raises(EngineError, match="other records"):
            await held.adopt(Adopt("end.1", "another token"), other)
        assert worker.link is leader
        assert held.claim("end.1", next_leader) is worker
        assert worker.link is next_leader

    asyncio.run(main())
