"""The slots of a node's workers, and the servers of one set of records that send requests to them."""

from collections.abc import Iterable

from openlaunch.agent.kept_work import KeptWorks
from openlaunch.agent.server_link import ServerLink
from openlaunch.agent.worker_relay import Seat, WorkerRelay
from openlaunch.nodes.calls import LEFT
from openlaunch.nodes.link import TOKENS, Kind
from openlaunch.nodes.slots import AgentSlots, FromAgent, Grant, Recall
from openlaunch_worker.frames import FrameError


class SharedSlots:
    """Gives servers seats at ready workers, and tokens for their slots: a slot is one server's at a time."""

    def __init__(self) -> None:
        self.links: dict[str, ServerLink] = {}
        self._slots = AgentSlots()
        self._relays: dict[str, WorkerRelay] = {}
        """The workers that are ready."""
        self.kept = KeptWorks(self._tell_left)

    def _tell_left(self, names: list[str]) -> None:
        for link in self.links.values():
            link.tell(LEFT, names)

    def join(self, link: ServerLink) -> None:
        self.links[link.name] = link
        for relay in self._relays.values():
            relay.sit(link)
        self._send(self._slots.gateway_joined(link.name))
        if names := self.kept.left():
            link.tell(LEFT, names)

    def leave(self, link: ServerLink) -> None:
        """Cancel what a server that is gone has running, unless it is kept, and give its tokens to others."""
        del self.links[link.name]
        relays = list(self._relays.values())
        messages, _ = self._slots.gateway_gone(link.name)
        for relay in relays:
            if (seat := relay.seats.get(link.first_id)) is not None:
                relay.leave(seat, keeps=True)
        self.kept.leave(link)
        self._send(messages)
        for relay in relays:
            relay.look()

    def wanted(self, link: ServerLink, endpoint_id: str, waiting: int) -> None:
        self._send(self._slots.wanted(link.name, endpoint_id, waiting))

    def ready(self, relay: WorkerRelay) -> None:
        spec = relay.spec
        self._relays[spec.worker_id] = relay
        for link in self.links.values():
            relay.sit(link)
        self._send(self._slots.worker_ready(spec.worker_id, spec.endpoint_id, spec.slots))

    def started(self, seat: Seat, request_id: int) -> bool:
        return self._slots.started(seat.link.name, seat.relay.spec.worker_id, request_id)

    def ended(self, relay: WorkerRelay, request_id: int) -> None:
        self._send(self._slots.ended(relay.spec.worker_id, request_id))

    def given(self, seat: Seat, tokens: int) -> None:
        try:
            self._send(self._slots.returned(seat.link.name, seat.relay.spec.worker_id, tokens))
        except ValueError as error:
            raise FrameError(str(error)) from None
        seat.relay.look()

    def drain(self, relay: WorkerRelay) -> None:
        if relay.spec.worker_id in self._relays:
            self._send(self._slots.drain(relay.spec.worker_id))

    def take_back(self) -> bool:
        """Take back all tokens, each once it is not used; return whether servers have some, or a request runs."""
        for relay in list(self._relays.values()):
            self.drain(relay)
        return not all(self.is_drained(relay) for relay in self._relays.values())

    def is_drained(self, relay: WorkerRelay) -> bool:
        known = relay.spec.worker_id in self._relays
        return not known or self._slots.is_drained(relay.spec.worker_id)

    def gone(self, relay: WorkerRelay) -> None:
        if self._relays.pop(relay.spec.worker_id, None) is not None:
            self._slots.worker_gone(relay.spec.worker_id)

    def _send(self, messages: Iterable[FromAgent]) -> None:
        for message in messages:
            link, relay = self.links[message.gateway], self._relays[message.worker]
            if (seat := relay.seats.get(link.first_id)) is None:
                continue  # its server has closed it, and the worker is replaced
            if isinstance(message, Grant):
                seat.say(Kind.GRANT, TOKENS.pack(message.tokens))
            elif isinstance(message, Recall):
                seat.say(Kind.RECALL, TOKENS.pack(message.tokens))
            else:
                seat.say(Kind.TAKE)
