"""A server whose workers are on nodes, each with an agent of its own."""

import concurrent.futures
import contextlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
from typing import ClassVar

import pytest
from agents import TOKEN, Agent, agents, settings_of
from http_service import http_service
from hub_driver import WEIGHTS, Hub
from nodes_driver import checks, node_of, where
from server_driver import SMALL, args, eventually, running

from openlaunch.errors import WorkerDied
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.link import VERSION, Kind
from openlaunch_worker.frames import FrameParser, encode


@pytest.fixture(scope="module")
def two():
    """Two agents, and a client of a server that uses them."""
    with agents(2) as started, running(**settings_of(started)) as client:
        yield started, client


def test_workers_of_an_endpoint_are_on_all_nodes(two):
    started, client = two
    endpoint = client.deploy(where, name="where", min_workers=2, max_workers=2, **SMALL)
    eventually(lambda: endpoint.deployment_state().available_workers == 2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        places = [
            each.result().value for each in [pool.submit(endpoint.predict, args(seconds=1)) for _ in range(2)]
        ]
    assert {node_of(started, place) for place in places} == set(started)


def weights(file: str) -> int:
    return os.stat(os.path.join(os.environ["OPENLAUNCH_CACHE"], file)).st_size  # noqa: PTH116, PTH118


def test_each_node_downloads_what_its_worker_needs_before_it(two):
    _, client = two
    own = type("OwnHub", (Hub,), {"seen": []})
    with http_service(own) as service:
        host = f"127.0.0.1:{service.server_port}"
        endpoint = client.deploy(
            weights,
            name="weights",
            prefetch=[f"http://{host}/plain/weights.bin"],
            min_workers=2,
            max_workers=2,
            **SMALL,
        )
        eventually(lambda: endpoint.deployment_state().available_workers == 2)
    assert own.seen
    file = f"http/{host.replace(':', '_')}/plain/weights.bin"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sizes = [
            each.result().value for each in [pool.submit(endpoint.predict, args(file=file)) for _ in range(4)]
        ]
    assert sizes == [len(WEIGHTS)] * 4


def test_logs_of_all_nodes_are_read_and_followed(two):
    _, client = two

    def say(word: str) -> str:
        print("said", word, flush=True)
        return word

    endpoint = client.deploy(say, name="say", min_workers=2, max_workers=2, **SMALL)
    eventually(lambda: endpoint.deployment_state().available_workers == 2)
    words = [f"word-{number}" for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda word: endpoint.predict(args(word=word)), words))
    eventually(lambda: all(f"said {word}" in str(client.read_endpoint_logs("say")) for word in words))


def test_a_worker_that_dies_is_told_as_on_this_machine(two):
    _, client = two

    def die() -> None:
        import os

        os.kill(os.getpid(), 9)

    endpoint = client.deploy(die, name="die", **SMALL)
    with pytest.raises(WorkerDied, match="killed by signal 9"):
        endpoint.predict(args())


def test_large_bodies_cross(two):
    _, client = two

    def size_and_back(text: str) -> str:
        return text[::-1]

    endpoint = client.deploy(size_and_back, name="back", **SMALL | {"memory": "512Mi"})
    text = "0123456789" * 800_000
    assert endpoint.predict(args(text=text)).value == text[::-1]


def test_an_agent_of_another_cluster_is_not_used(tmp_path):
    with agents(1) as started, running(**settings_of(started, token="6" * 64)) as client:
        check = checks(client)["nodes"]
        assert check["status"] == "warning"
        assert "it belongs to another cluster" in check["detail"]
        eventually(lambda: "is not from a server of this cluster" in started[0].log)
        assert "others came" not in started[0].log
        assert TOKEN not in started[0].log


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"version": 0},
            f"it speaks version 0 of the protocol, and this agent version {VERSION}: update one",
        ),
        ({"version": 99, "oldest": 98}, "it speaks versions 98 to 99 of the protocol, and this agent"),
        ({"version": "3"}, "it speaks version 3 of the protocol"),
        ({"proof": "0" * 64}, "its cluster's token is another one"),
        ({"proof": None}, "its cluster's token is another one"),
    ],
)
def test_an_agent_refuses_and_says_why(two, change, reason):
    started, _ = two
    identity = ClusterIdentity(TOKEN)
    hello = {"version": VERSION, "proof": identity.proof, "server": "test", **change}
    raw = socket.create_connection(("127.0.0.1", started[0].port), 10)
    with raw, identity.server_context().wrap_socket(raw) as link:
        link.sendall(encode(Kind.HELLO, 0, json.dumps(hello).encode()))
        parser, frames = FrameParser(), []
        while not any(kind == Kind.REFUSED for kind, _, _ in frames) and (data := link.recv(65536)):
            frames += parser.feed(data)
    (answer,) = [json.loads(payload) for kind, _, payload in frames if kind == Kind.REFUSED]
    assert answer["reason"].startswith(reason)
    eventually(lambda: "is refused: " in started[0].log)  # once in a while, whatever the reasons are


def test_a_newer_server_that_speaks_the_agents_version_too_is_taken(two):
    started, _ = two
    identity = ClusterIdentity(TOKEN)
    hello = {"version": VERSION + 1, "oldest": VERSION, "proof": identity.proof, "server": "test", "new": 1}
    raw = socket.create_connection(("127.0.0.1", started[0].port), 10)
    with raw, identity.server_context().wrap_socket(raw) as link:
        link.sendall(encode(Kind.HELLO, 0, json.dumps(hello).encode()))
        parser, frames = FrameParser(), []
        while not any(kind == Kind.WELCOME for kind, _, _ in frames) and (data := link.recv(65536)):
            frames += parser.feed(data)
    (answer,) = [json.loads(payload) for kind, _, payload in frames if kind == Kind.WELCOME]
    assert answer["version"] == VERSION


def test_a_recorded_hello_is_good_for_nothing(two):
    started, _ = two
    agent, identity = started[0], ClusterIdentity(TOKEN)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls, recorded, answer = identity.server_context().wrap_bio(incoming, outgoing), b"", b""

    def exchange(raw):
        """Send what is to be sent, and read once."""
        data = outgoing.read()
        raw.sendall(data)
        incoming.write(raw.recv(65536))
        return data

    with socket.create_connection(("127.0.0.1", agent.port), 10) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                recorded += exchange(raw)
        hello = {"version": VERSION, "proof": identity.proof, "records": "recorded", "server": "recorded"}
        tls.write(encode(Kind.HELLO, 0, json.dumps(hello).encode()))
        parser = FrameParser()
        while not any(kind == Kind.WELCOME for kind, _, _ in parser.feed(answer)):
            recorded += exchange(raw)
            with contextlib.suppress(ssl.SSLWantReadError):
                answer = tls.read(65536)
        port = raw.getsockname()[1]
    eventually(lambda: f":{port} is connected" in agent.log)
    with socket.create_connection(("127.0.0.1", agent.port), 10) as raw:
        port = raw.getsockname()[1]
        raw.sendall(recorded)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(65536):
                pass  # until the agent closes it
    assert f":{port} is connected" not in agent.log


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (encode(Kind.HELLO, 0, b"{}"), "a frame of the kind 1, which does not belong there"),
        (
            encode(Kind.KEEP, 1, bytes(5000))[:1000],
            "a frame KEEP of 5000 bytes, over the limit of 4096 bytes",
        ),
        (
            encode(
                Kind.KEEP,
                1,
                json.dumps(
                    {"number": 1, "name": "n" * 201, "max_bytes": 1, "ended_seconds": 1, "left_seconds": 1}
                ).encode(),
            ),
            "a KEEP of a request that can't be",
        ),
    ],
    ids=["second hello", "large keep", "long name"],
)
def test_a_server_that_breaks_the_protocol_is_let_go(two, sent, reason):
    started, _ = two
    raw = Raw(started[0], "of a test")
    assert raw.call("lead", 0) == []
    raw.link.sendall(sent)
    with contextlib.suppress(ConnectionResetError):
        while raw.link.recv(65536):
            pass
    raw.close()
    eventually(lambda: f"broke the protocol: {reason}" in started[0].log)


OLD_PROGRAM = """
from openlaunch.nodes import link
link.VERSION = link.OLDEST = 1
from openlaunch.cli.app import run
run()
"""


class OldAgent(Agent):
    """An agent that speaks an earlier version of the protocol."""

    program = ("-c", OLD_PROGRAM)


def test_a_server_names_each_agent_that_it_can_not_use_and_why(two, tmp_path):
    started, _ = two
    folder = tmp_path / "old"
    folder.mkdir()
    old = OldAgent(folder)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        away = f"127.0.0.1:{closed.getsockname()[1]}"
        settings = settings_of(started) | {"agents": f"{started[0].address},{old.address},{away}"}
        try:
            with running(**settings) as client:
                check = eventually(lambda: (c := checks(client)["nodes"])["status"] == "warning" and c)
                told = dict(each.split(": ", 1) for each in check["detail"].split("; "))
                assert set(told) == {old.address, away}
                assert told[away] == "it can't be reached: Connection refused"
                assert (
                    f"it speaks version {VERSION} of the protocol, and this agent version 1"
                    in told[old.address]
                )
                states = {node.address: node.state.value for node in client.list_nodes()}
                assert states == {started[0].address: "ready", old.address: "away", away: "away"}
        finally:
            old.close()


def test_a_connection_that_is_no_server_does_not_hold_the_agent_up(two):
    started, client = two
    endpoint = client.deploy(where, name="where", **SMALL)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", started[0].port)))
        assert endpoint.predict(args(seconds=0)).status == "SUCCESS"


def test_an_agent_needs_a_token(tmp_path):
    command = [sys.executable, "-m", "openlaunch.cli", "agent", "--data-dir", str(tmp_path)]
    for token, reason in (
        ("", "OPENLAUNCH_CLUSTER_TOKEN"),
        ("short", "has 5 characters, and at least 32 are needed"),
    ):
        environ = {**os.environ, "OPENLAUNCH_CLUSTER_TOKEN": token} if token else os.environ
        run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        assert run.returncode == 2
        assert reason in run.stderr


class Raw:
    """A server's end of a link to an agent, frame by frame. Those that `open` has are alive."""

    open: ClassVar[set["Raw"]] = set()

    def __init__(self, agent, records="records"):
        identity = ClusterIdentity(TOKEN)
        raw = socket.create_connection(("127.0.0.1", agent.port), 10)
        self.link = identity.server_context().wrap_socket(raw)
        self._parser = FrameParser()
        hello = {"version": VERSION, "proof": identity.proof, "records": records}
        self.link.sendall(encode(Kind.HELLO, 0, json.dumps(hello).encode()))
        self.open.add(self)

    def close(self):
        self.open.discard(self)
        self.link.close()

    def call(self, method, argument):
        """What the agent returns, or says of why it does not."""
        for each in self.open:
            each.link.sendall(encode(Kind.BEAT, 0))
        document = {"method": method, "argument": argument}
        self.link.sendall(encode(Kind.CALL, 1, json.dumps(document).encode()))
        while data := self.link.recv(65536):
            for kind, _, payload in self._parser.feed(data):
                if kind in (Kind.RETURN, Kind.FAILED):
                    answer = json.loads(payload)
                    return answer.get("message", answer.get("answer"))
        raise AssertionError("the agent closed the connection")


def test_an_agent_obeys_the_newest_leader_alone_and_remembers_it():
    with agents(1) as started:
        old, new, other = Raw(started[0]), Raw(started[0]), Raw(started[0], "of other servers")
        stop = {"worker_id": "end.1", "grace": 0}
        assert "obeys servers that lead alone" in old.call("stop", stop)
        assert old.call("lead", 3) == []
        assert old.call("stop", stop) is None
        assert new.call("lead", 4) == []
        for method, argument in (("lead", 3), ("stop", stop), ("prune", {"used": [], "owner": None})):
            assert "has seen one of the epoch 4" in old.call(method, argument)
        assert new.call("stop", stop) is None
        assert other.call("lead", 0) == []
        assert "is refused" in started[0].log
        for each in (old, new, other):
            each.close()
        started[0].kill()
        started[0].start()
        old, new = Raw(started[0]), Raw(started[0])
        assert "has seen one of the epoch 4" in old.call("lead", 3)
        assert new.call("lead", 4) == []
        for each in (old, new):
            each.close()


def test_functions_call_endpoints_over_the_link_of_their_node(two):
    _, client = two

    def size(text: str) -> int:
        return len(text)

    def count(to: int):
        yield from range(to)

    def call(length: int) -> list:
        import openlaunch

        sized, counted = openlaunch.endpoint("called-size"), openlaunch.endpoint("called-count")
        return [sized.predict(text="x" * length), list(counted.stream(to=3))]

    def call_in_a_batch(inputs: list[dict]) -> list[int]:
        import openlaunch

        return [openlaunch.endpoint("called-size").predict(text="x" * each["length"]) for each in inputs]

    def call_often() -> list:
        import socket

        from openlaunch_worker.calling import _opened

        opened: list[socket.socket] = []
        try:
            while len(opened) < 300:
                opened.append(_opened(0))
        except OSError:
            refused = True
        for each in opened:
            each.close()
        return [len(opened), refused]

    client.deploy(size, name="called-size", per_worker=4, max_workers=1, **SMALL | {"memory": "512Mi"})
    client.deploy(count, name="called-count", max_workers=1, **SMALL)
    endpoint = client.deploy(call, name="calls", per_worker=4, max_workers=1, **SMALL | {"memory": "512Mi"})
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(endpoint.predict, args(length=n)) for n in (0, 1000, 6_000_000, 3)]
    assert [each.result().value for each in answers] == [[n, [0, 1, 2]] for n in (0, 1000, 6_000_000, 3)]

    batched = {"max_batch_size": 2, "max_batch_wait": 0.01, "max_workers": 1}
    endpoint = client.deploy(call_in_a_batch, name="batch-calls", **batched, **SMALL)
    assert endpoint.predict(args(length=5)).value == 5
    endpoint = client.deploy(call_often, name="calls-often", max_workers=1, **SMALL)
    for _ in range(2):  # what was closed makes room again
        assert endpoint.predict(args()).value == [256, True]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what another process may open")
def test_an_agent_may_open_as_many_files_as_the_system_lets_it():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        with agents() as (node,):
            assert resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)[0] > 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
