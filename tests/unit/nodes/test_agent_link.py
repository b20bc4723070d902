"""What a server makes of an agent that does not keep to the protocol: the link ends, with the reason."""

import asyncio
import json
import socket

import pytest

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import Capacity
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import VERSION, Kind
from openlaunch.nodes.slots import GatewaySlots
from openlaunch_worker.frames import SEAT_IDS, encode

IDENTITY = ClusterIdentity("t" * 40)
CAPACITY = calls.CAPACITY.dump(Capacity(cpus=1, memory=1, gpus=0, free_gpus=0))
WELCOME = {"version": VERSION, "node": "there", "capacity": CAPACITY}


class Gateway:
    """Takes every channel, and reads nothing of it. It holds no tokens."""

    def __init__(self):
        self._slots = GatewaySlots()
        self.granted, self.taken = self._slots.granted, self._slots.taken

    def share(self, worker, transport):
        self._slots.worker_ready("there", worker.worker_id, worker.endpoint_id)
        return asyncio.Protocol()

    def serve(self, client, transport):
        return asyncio.Protocol()


def frame(kind, document, number=0):
    return encode(kind, number, json.dumps(document).encode())


def heard(event, about):
    calls.ENDED.argument(about)


async def linked(sent):
    """What ends the link to an agent that sends this, and what is the end of a call that it answers."""
    ours, theirs = socket.socketpair()
    loop, lost = asyncio.get_running_loop(), asyncio.Event()
    make = lambda: AgentLink("there:1", IDENTITY, "r", "s", Gateway(), heard, lambda link: lost.set())  # noqa: E731
    _, link = await loop.create_connection(make, sock=ours)
    with theirs:
        theirs.sendall(frame(Kind.WELCOME, WELCOME))
        await link.welcome
        call = asyncio.ensure_future(link.call(calls.LEAD, 1))
        await asyncio.sleep(0)
        theirs.sendall(sent)
        done, _ = await asyncio.wait([call], timeout=30)
        assert done
        with pytest.raises(EngineError) as caught:
            call.result()
        link.lose("is at its end")
        await lost.wait()
    return link.lost_because, str(caught.value)


OPEN = frame(Kind.OPEN, {"client": "1.2.3.4"}, 1)
WORKER = {"worker_id": "e.w", "endpoint_id": "e", "generation": 1, "first_id": 0}
SEAT = frame(Kind.OPEN, {"worker": WORKER}, 1)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (OPEN + OPEN, "an OPEN of a channel that there is"),
        (OPEN + encode(Kind.RESUME, 1), "a RESUME of what was not paused"),
        (
            frame(Kind.EVENT, {"event": "ended", "about": {"exit": 1}}),
            "an EVENT 'ended' about something that does not fit",
        ),
        (encode(99, 1), "a frame of the kind 99"),
        (SEAT + encode(Kind.TAKE, 1), "a token of worker e.w was taken, and none is held"),
        (SEAT + encode(Kind.GRANT, 1, b"\xff" * 4), "4294967295 tokens more of worker e.w"),
    ],
)
def test_an_agent_that_breaks_the_protocol_is_left_with_the_reason(caplog, sent, reason):
    lost_because, _ = asyncio.run(linked(sent))
    assert f"broke the protocol: {reason}" in lost_because
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (calls.CAPACITY, {"cpus": float("nan")}),
        (calls.CAPACITY, {"memory": -1}),
        (calls.CAPACITY, {"free_gpus": 10**400}),
        (calls.CAPACITY, {"gpu_parts": [float("inf")]}),
        (calls.SHARED, {"first_id": 1}),
        (calls.SHARED, {"first_id": SEAT_IDS << 32}),
        (calls.LEAD, {"resources": {"cpus": float("nan")}}),
    ],
)
def test_what_no_machine_has_is_none(call, given):
    identity = {"generation": 1, "bundle_id": "b", "terms": "t"}
    kept = {**WORKER, "identity": identity, "resources": {}, "ready": True}
    good = {calls.CAPACITY: CAPACITY, calls.SHARED: WORKER, calls.LEAD: kept}[call]
    read = call.answer if call is calls.LEAD else call.argument
    listed = (lambda document: [document]) if call is calls.LEAD else (lambda document: document)
    assert read(listed(good))
    with pytest.raises(ValueError, match=r"no machine has that much|do not begin there"):
        read(listed(good | given))


def test_an_answer_that_is_none_is_the_failure_of_its_call_alone():
    lost_because, error = asyncio.run(linked(frame(Kind.RETURN, {"answer": 7}, 1)))
    assert lost_because == "is at its end"
    assert "the node there answered lead with what is not an answer to it" in error
