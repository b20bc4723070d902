"""Connections over which workers call endpoints."""

import asyncio
from typing import Protocol

from openlaunch.server.dispatch.member import Member
from openlaunch_worker.calling import calls_token


class Calls(Protocol):
    """Opens and ends connections over which workers call endpoints."""

    def open(self, member: Member, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """Make a connection of a worker one for calls; None where it has too many."""
        ...

    def end(self, member: Member) -> None:
        """Close the connections of a worker that has ended."""
        ...

    def serve(self, client: str, transport: asyncio.Transport) -> asyncio.Protocol:
        """Answer what a client has asked another server."""
        ...


class Caller:
    """A connection that has said HELLO with the token of a worker's calls."""

    def __init__(self, callers: "Callers", member: Member) -> None:
        self._callers = callers
        self._member = member

    def connect(self, transport: asyncio.Transport) -> None:
        """Take the connection over."""
        if self._callers.open(self._member, transport) is None:
            transport.abort()


class Callers:
    """Knows workers by the tokens of their calls, and refuses calls until the server answers requests."""

    def __init__(self) -> None:
        self.calls: Calls | None = None
        self._members: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        self._members[calls_token(member.token)] = member

    def find(self, token: str) -> Caller | None:
        """Return what takes a connection with this token over."""
        member = self._members.get(token)
        return None if member is None else Caller(self, member)

    def open(self, member: Member | None, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """Make a connection of a worker one for calls; None for one that is not known, or has too many."""
        return None if member is None or self.calls is None else self.calls.open(member, transport)

    def serve(self, client: str, transport: asyncio.Transport) -> asyncio.Protocol | None:
        """Answer what a client has asked another server, because this one leads."""
        return None if self.calls is None else self.calls.serve(client, transport)

    def end(self, member: Member) -> None:
        """Close the connections of a worker."""
        self._members.pop(calls_token(member.token), None)
        if self.calls is not None:
            self.calls.end(member)
