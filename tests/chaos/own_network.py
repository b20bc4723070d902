"""A network of a test's own: this process in one namespace, and further ones behind cables that can be pulled.

It reaches nothing of the machine's network, and nothing there reaches it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from openlaunch_worker import kernel

NEW_NETWORK = 0x40000000


def missing() -> str:
    """Why there can't be one here; empty: there can."""
    if shutil.which("ip") is None:
        return "the command ip is missing (iproute2)"
    try:
        with own_network() as network:
            network.host()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network can be made here: {error}"
    return ""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _new_namespace() -> Iterator[int]:
    """Have the calling thread, and what it starts, in a new namespace until the end of the block."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        kernel.unshare(NEW_NETWORK)
        new = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _ip("link", "set", "lo", "up")
            yield new
        finally:
            os.close(new)
            kernel.enter_namespace(before, NEW_NETWORK)
    finally:
        os.close(before)


@dataclass
class Host:
    """A machine behind a cable."""

    address: str
    near: str
    """The address of the other end of its cable, at which it reaches this process."""
    cable: str
    namespace: int

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have what is started in the block on this machine."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            kernel.enter_namespace(self.namespace, NEW_NETWORK)
            yield
        finally:
            kernel.enter_namespace(before, NEW_NETWORK)
            os.close(before)

    def pull(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        """Put it in again."""
        _ip("link", "set", self.cable, "up")


class Network:
    """The machines of a network, in the middle of which this process is."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._hosts = 0

    def host(self) -> Host:
        """Make one more machine."""
        number, self._hosts = 4 * self._hosts, self._hosts + 1
        near, far, cable = f"198.51.100.{number + 1}", f"198.51.100.{number + 2}", f"cable{number}"
        with _new_namespace() as namespace:
            kept = os.dup(namespace)
            self._stack.callback(os.close, kept)
            holder = subprocess.Popen(["sleep", "infinity"])
        self._stack.callback(holder.wait)
        self._stack.callback(holder.kill)
        made = Host(far, near, cable, kept)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _ip("addr", "add", f"{near}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        with made.entered():
            _ip("addr", "add", f"{far}/30", "dev", "eth0")
            _ip("link", "set", "eth0", "up")
        return made


@contextmanager
def own_network() -> Iterator[Network]:
    """Have this thread, and what it starts, in a network of its own until the end of the block."""
    with ExitStack() as stack, _new_namespace():
        yield Network(stack)
