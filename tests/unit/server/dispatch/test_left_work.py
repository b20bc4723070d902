"""Requests of servers that are gone, as another server takes them up from an agent."""

import asyncio
import json
import socket
from types import SimpleNamespace

from lanes import call, make_lane

from openlaunch.engines.documents import Capacity
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink
from openlaunch.nodes.calls import TakenUp
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import VERSION, Kind
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.left_work import LeftWork
from openlaunch.server.settings import Settings
from openlaunch_worker.frames import Kind as WorkerKind
from openlaunch_worker.frames import encode

CAPACITY = calls.CAPACITY.dump(Capacity(cpus=1, memory=1, gpus=0, free_gpus=0))


def frame(kind: Kind, document: object, number: int = 0) -> bytes:
    return encode(kind, number, json.dumps(document).encode())


def test_what_an_agent_has_begun_to_send_is_not_run_again_though_the_call_fails() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop, lost = asyncio.get_running_loop(), asyncio.Event()
        left, work = LeftWork(Settings(), ArrivingAnswers(10**6)), call("a")
        gateway = SimpleNamespace(left=left.heard, taken_up=left.opened)

        def link_to_agent() -> AgentLink:
            identity = ClusterIdentity("t" * 40)
            return AgentLink(
                "there:1", identity, "r", "s", gateway, lambda *heard: None, lambda link: lost.set()
            )

        _, link = await loop.create_connection(link_to_agent, sock=ours)
        with theirs:
            theirs.sendall(
                frame(Kind.WELCOME, {"version": VERSION, "node": "there", "capacity": CAPACITY})
                + frame(Kind.EVENT, {"event": "left", "about": ["task-a"]})
            )
            async with asyncio.timeout(30):
                while "task-a" not in left:
                    await asyncio.sleep(0.001)
                taking = asyncio.ensure_future(left.take_up("task-a", make_lane(), lambda taken_up: work))
                await asyncio.sleep(0)  # so that it has asked
                opened = calls.TAKEN_UP.dump(TakenUp("task-a", "end.1", 0, 5, 0, 0, 0))
                theirs.sendall(
                    frame(Kind.OPEN, {"taken_up": opened}, 1)
                    + frame(Kind.FAILED, {"type": "EngineError", "message": "it takes long"}, 1)
                )
                assert await taking is work
                theirs.sendall(encode(Kind.DATA, 1, encode(WorkerKind.RESULT, 5, b"\0" + b"{}")))
                while not work.cancelled:
                    await asyncio.sleep(0.001)
                link.lose("is at its end")
                await lost.wait()

    asyncio.run(main())
