"""A channel from one server to another: bytes go both ways, as fast as they are taken, until either end is closed."""

import pytest

from openlaunch.agent.bridges import MAX_BRIDGES, bridge
from openlaunch.engines.base import EngineError
from openlaunch.nodes.link import Kind
from openlaunch_worker.frames import FrameError


class Link:
    """A server's link: its channels, and what it was sent over each."""

    def __init__(self):
        self.channels, self.opened, self.data, self.said = {}, {}, {}, []

    def open_channel(self, end, document):
        number = len(self.opened) + 1
        self.channels[number], self.opened[number], self.data[number] = end, document, b""
        return number

    def send_data(self, number, data):
        self.data[number] += data

    def send(self, kind, number):
        assert number in self.channels
        self.said.append(kind)

    def close_channel(self, number):
        self.channels.pop(number, None)


class FullLink(Link):
    """A link that holds as many bytes as it should, so that what is opened is to send nothing."""

    def open_channel(self, end, document):
        number = super().open_channel(end, document)
        end.pause()
        return number


class ClosedLink(Link):
    """A link with too many channels."""

    def open_channel(self, end, document):
        raise FrameError("too many workers")


def joined(asker, asked):
    return asker.channels[bridge(asker, asked, "192.0.2.1")], asked.channels[1]


def test_what_one_server_sends_comes_to_the_other():
    asker, asked = Link(), Link()
    here, there = joined(asker, asked)
    here.receive(b"a request")
    there.receive(b"its answer")
    assert (asked.data[1], asker.data[1]) == (b"a request", b"its answer")
    assert asked.opened[1] == {"client": "192.0.2.1"}


def test_a_server_that_reads_slowly_holds_the_other_up():
    asker, asked = Link(), Link()
    here, _ = joined(asker, asked)
    here.pause()
    here.resume()
    assert asked.said == [Kind.PAUSE, Kind.RESUME]
    assert asker.said == []


@pytest.mark.parametrize("full", ["asker", "asked"])
def test_a_server_whose_link_is_full_from_the_start_holds_the_other_up_as_well(full):
    asker, asked = (FullLink(), Link()) if full == "asker" else (Link(), FullLink())
    joined(asker, asked)
    other = asked if full == "asker" else asker
    assert other.said == [Kind.PAUSE]


@pytest.mark.parametrize("ended", ["closed", "lost"])
def test_it_ends_with_either_server(ended):
    for first in (True, False):
        asker, asked = Link(), Link()
        ends = joined(asker, asked)
        getattr(ends[0 if first else 1], ended)()
        assert not (asked if first else asker).channels


def test_what_can_not_be_joined_leaves_nothing_open():
    asker = Link()
    for asked, reason in ((None, "not connected"), (asker, "not connected"), (ClosedLink(), "too many")):
        with pytest.raises(EngineError, match=reason):
            bridge(asker, asked, "")
        assert not asker.channels


def test_a_server_has_a_limited_number_of_them():
    asker, asked = Link(), Link()
    for _ in range(MAX_BRIDGES):
        bridge(asker, asked, "")
    with pytest.raises(EngineError, match="256"):
        bridge(asker, asked, "")
    asker.close_channel(1)
    bridge(asker, asked, "")
