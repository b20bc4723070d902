"""What keys and owners use at several servers: each says its own to the others, so that limits hold for all."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from openlaunch.background import Background
from openlaunch.server.access.key_use import KeyUse
from openlaunch.server.access.tokens import Account

SAY_SECONDS: Final = 0.1
"""How often a server says what was used, if anything was."""


class Others(Protocol):
    """The other servers."""

    others: int

    def used(self, requests: Mapping[str, int], tokens: Mapping[Account, int]) -> None:
        """Tell them of requests, by key, and of tokens, by key and owner."""
        ...


class SharedUse(Background):
    """Says what is used here, off the path of requests. `KeyUse.used_elsewhere` counts what others say."""

    def __init__(self, others: Others, use: KeyUse) -> None:
        self._others, self._use = others, use
        super().__init__("what keys use is not said to the other servers")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAY_SECONDS)
            requests, tokens = self._use.take()
            if self._others.others and (requests or tokens):
                self._others.used(requests, tokens)
