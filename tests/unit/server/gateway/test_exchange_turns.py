"""Requests with a body that takes long are taken up one in each turn of the event loop; small ones at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.bodies import BodyBudget
from openlaunch.server.gateway.exchange import TURN_BYTES, Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.local_requests import answered
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.proxies import Proxies
from openlaunch.server.settings import Settings


class Scene:
    """What answers requests, and of whom it has taken some up, in which turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.taken_up: list[tuple[int, str]] = []
        given: dict[str, Any] = dict.fromkeys(("connections", "unread", "unsent", "answers", "cors"))
        self.services = HttpServices(
            routes=RouteTable({(b"POST", b"/x"): self.take_up}),
            app=None,  # type: ignore[arg-type]
            proxies=Proxies(Settings()),
            endpoint_origins=lambda head: frozenset(),
            admit=self.admit,
            admit_scraper=None,  # type: ignore[arg-type]
            bodies=BodyBudget(10**9),
            max_body_bytes=10**6,
            read_seconds=1.0,
            write_seconds=1.0,
            **given,
        )

    def admit(self, scope):
        scope[PRINCIPAL] = SimpleNamespace(owner=dict(scope["headers"])[b"authorization"].decode())
        return scope[PRINCIPAL]

    def take_up(self, exchange: Exchange) -> None:
        self.taken_up.append((self.turn, exchange.owner))
        exchange.respond(b"{}")

    async def send(self, owners: str, size: int) -> list[asyncio.Task[Any]]:
        """Send a request of each owner at once, and wait until all that can be taken up is."""
        sent = [
            asyncio.create_task(
                answered(self.services, "POST", "/x", {"authorization": owner}, bytearray(size), None)
            )
            for owner in owners
        ]
        for _ in range(20):
            await asyncio.sleep(0)
            self.turn += 1
        return sent


@pytest.mark.parametrize(("size", "turns"), [(TURN_BYTES, 1), (TURN_BYTES + 1, 4), (100 * 1024, 4)])
def test_each_larger_body_has_a_turn_of_its_own(size, turns):
    async def main() -> None:
        scene = Scene()
        for request in await scene.send("aaaa", size):
            assert (await request).status == 200
        assert len({turn for turn, _ in scene.taken_up}) == turns

    asyncio.run(main())


def test_owners_take_turns():
    async def main() -> None:
        scene = Scene()
        await scene.send("aaab", 2 * TURN_BYTES)
        assert "".join(owner for _, owner in scene.taken_up) == "aaba"

    asyncio.run(main())


def test_a_request_whose_client_has_gone_is_not_taken_up():
    async def main() -> None:
        scene = Scene()
        sending = asyncio.create_task(scene.send(9 * "a", 2 * TURN_BYTES))
        for _ in range(3):
            await asyncio.sleep(0)
        assert scene.taken_up
        for task in asyncio.all_tasks() - {asyncio.current_task(), sending}:
            task.cancel()
        await sending
        assert len(scene.taken_up) < 5

    asyncio.run(main())
