"""What a killed server had running on a node goes on at another one: streams, tasks, and requests with a key."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from agents import Agent, agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import KEY, LITTLE, TOKEN, Servers, client_of
from nodes_driver import counted, noted
from server_driver import args, eventually

from openlaunch import LaunchClient
from openlaunch.client.endpoints import StreamingEndpoint
from openlaunch.errors import Unavailable

pytestmark = pytest.mark.slow


@dataclass
class Two:
    """Two servers and their node. `first` leads, and is the one that is killed."""

    first: ChaosServer
    second: ChaosServer
    node: Agent
    here: LaunchClient
    there: LaunchClient
    folder: Path
    stream_id: str

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    def given(self, **more: object) -> dict[str, object]:
        return {"log": str(self.folder / "log"), "gate": str(self.gate), **more}

    def noted(self, word: str) -> int:
        log = self.folder / "log"
        return log.read_text().count(word) if log.exists() else 0

    def running(self, name: str) -> int:
        """How many requests the servers that are left have running in an endpoint's worker."""
        with suppress(Unavailable):  # until the second server leads
            return sum(each.running for each in self.there.list_endpoint_workers(name))
        return 0

    def runs(self) -> int:
        return self.noted("ran")

    def kill(self) -> None:
        os.kill(self.first.pid, signal.SIGKILL)


@pytest.fixture
def two(servers: Servers, tmp_path: Path) -> Iterator[Two]:
    with on_one_node(servers, tmp_path) as (two, _):
        yield two


@contextmanager
def on_one_node(servers: Servers, folder: Path) -> Iterator[tuple[Two, dict[str, str]]]:
    """Two servers, and what a further one is given."""
    with (
        agents(1, token=TOKEN) as nodes,
        servers.two(stream_resume_seconds=5, **(given := settings_of(nodes, TOKEN))) as (first, second),
        client_of(first) as here,
        client_of(second) as there,
    ):
        one = {"min_workers": 1, "max_workers": 1, **LITTLE}
        made = here.deploy(counted, name="counted", endpoint_type="streaming", per_worker=4, **one)
        here.deploy(noted, name="later", endpoint_type="async", **one)
        eventually(lambda: {e.name for e in there.list_model_endpoints()} == {"counted", "later"})
        yield Two(first, second, nodes[0], here, there, folder, made.model_endpoint.id), given


class Stream:
    """A stream as a client sees it that reads events one by one."""

    def __init__(self, two: Two, **given: object) -> None:
        self.path = f"/v1/streaming-tasks?model_endpoint_id={two.stream_id}"
        self._body = {"args": two.given(**given)}

    def begin(self, server: ChaosServer, count: int) -> str:
        """Read this number of events, and lose the connection; return the id of the last."""
        asked = {
            "json": self._body,
            "headers": {"openlaunch-resume": "true"},
            "auth": (KEY, ""),
            "timeout": 60,
        }
        with httpx2.stream("POST", server.url + self.path, **asked) as answer:
            ids = (line.removeprefix("id: ") for line in answer.iter_lines() if line.startswith("id: "))
            return [next(ids) for _ in range(count)][-1]

    def resumed(self, after: str) -> dict[str, object]:
        """What a request has that resumes the stream."""
        return {"headers": {"last-event-id": after}, "auth": (KEY, ""), "timeout": 60}

    def ask(self, server: ChaosServer, after: str, method: str = "POST", key: str = KEY) -> httpx2.Response:
        headers = {"last-event-id": after}
        return httpx2.request(method, server.url + self.path, headers=headers, auth=(key, ""), timeout=60)


def values(answer: httpx2.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    assert "event: end" in lines
    return [int(json.loads(line[6:])["result"]["result"].split()[0]) for line in lines if '"result"' in line]


@pytest.mark.parametrize("size", [0, 100_000], ids=["small", "large"])
def test_a_stream_goes_on_at_another_server_when_its_own_is_killed(
    two: Two, size: int, figure: Callable[[str], None]
) -> None:
    stream = Stream(two, to=30, size=size)
    last = stream.begin(two.first, 2)
    two.kill()
    began = time.monotonic()
    two.gate.touch()
    assert values(stream.ask(two.second, last)) == list(range(2, 30))
    figure(f"a stream of a killed server was resumed to its end after {time.monotonic() - began:.2f} s")
    # It is the second server's now, for the time that an ended stream is kept.
    assert values(stream.ask(two.second, last)) == list(range(2, 30))
    assert two.runs() == 1


def test_a_stream_that_has_ended_is_had_from_another_server(two: Two) -> None:
    two.gate.touch()
    stream = Stream(two, to=30)
    last = stream.begin(two.first, 2)
    eventually(lambda: values(stream.ask(two.first, last)) == list(range(2, 30)))
    two.kill()
    assert values(stream.ask(two.second, last)) == list(range(2, 30))
    assert two.runs() == 1


def test_somebody_elses_stream_is_not_found_and_one_can_be_stopped(two: Two) -> None:
    other = two.there.create_api_key(owner="bob", role="user")
    stream = Stream(two, to=30)
    last = stream.begin(two.first, 2)
    two.kill()
    assert stream.ask(two.second, last, key=other.api_key).status_code == 404
    assert stream.ask(two.second, last, "DELETE").json() == {"cancelled": True}
    assert stream.ask(two.second, last).status_code == 404


def test_a_stream_to_which_nobody_comes_back_is_ended(two: Two) -> None:
    stream = Stream(two, to=30)
    stream.begin(two.first, 2)
    two.kill()
    assert two.noted("stopped") == 0
    eventually(lambda: two.noted("stopped") == 1)


def test_a_task_goes_on_whose_server_is_killed(two: Two, figure: Callable[[str], None]) -> None:
    task = two.here.get_model_endpoint("later").predict(args(**two.given(value=7)))
    eventually(lambda: two.runs() == 1)
    two.kill()
    killed = time.monotonic()
    # Another server has it while it runs, in its only slot.
    eventually(lambda: two.running("later") == 1)
    figure(f"another server had a task of a killed one after {time.monotonic() - killed:.1f} s, while it ran")
    two.gate.touch()
    assert two.there.future(task.async_task_id).get(timeout=60).value == 7
    assert two.runs() == 1


def test_the_result_of_a_task_that_ended_without_a_server_is_recorded(two: Two) -> None:
    tasks = [two.here.get_model_endpoint("later").predict(args(**two.given(value=n))) for n in range(3)]
    eventually(lambda: two.runs() == 1)
    two.kill()
    two.gate.touch()
    assert [two.there.future(task.async_task_id).get(timeout=60).value for task in tasks] == [0, 1, 2]
    assert two.runs() == 3


def test_a_client_of_both_servers_sees_no_break_in_its_stream(two: Two) -> None:
    with LaunchClient(KEY, f"{two.first.url},{two.second.url}") as client:
        endpoint = client.get_model_endpoint("counted")
        assert isinstance(endpoint, StreamingEndpoint)
        seen = []
        for piece in endpoint.predict(args(**two.given(to=30))):
            seen.append(int(piece.value.split()[0]))
            if seen == [0, 1, 2]:
                two.kill()
                two.gate.touch()
    assert seen == list(range(30))
    assert two.runs() == 1


@dataclass
class Three:
    """Two servers and a third one, on one node."""

    two: Two
    third: ChaosServer
    last: LaunchClient


@pytest.fixture
def three(servers: Servers, tmp_path: Path) -> Iterator[Three]:
    with (
        on_one_node(servers, tmp_path) as (two, given),
        servers.another(stream_resume_seconds=5, **given) as third,
        client_of(third) as last,
    ):
        eventually(lambda: {e.name for e in last.list_model_endpoints()} == {"counted", "later"})
        yield Three(two, third, last)


def test_a_stream_that_a_second_server_has_taken_up_is_had_from_a_third(three: Three) -> None:
    two = three.two
    stream = Stream(two, to=30)
    last = stream.begin(two.first, 2)
    two.kill()
    with httpx2.stream("POST", two.second.url + stream.path, **stream.resumed(last)) as answer:
        assert "id: " in next(line for line in answer.iter_lines() if line.startswith("id: "))
    two.gate.touch()
    assert values(stream.ask(three.third, last)) == list(range(2, 30))
    assert two.runs() == 1


def test_a_stream_goes_on_at_a_third_server_when_two_are_killed_one_after_the_other(
    three: Three, figure: Callable[[str], None]
) -> None:
    two = three.two
    stream = Stream(two, to=30)
    last = stream.begin(two.first, 2)
    two.kill()
    with httpx2.stream("POST", two.second.url + stream.path, **stream.resumed(last)) as answer:
        assert next(line for line in answer.iter_lines() if line.startswith("id: "))
        os.kill(two.second.pid, signal.SIGKILL)
        killed = time.monotonic()
        two.gate.touch()
        assert values(stream.ask(three.third, last)) == list(range(2, 30))
    figure(f"a stream of two killed servers was resumed to its end after {time.monotonic() - killed:.2f} s")
    assert two.runs() == 1


def test_a_client_of_three_servers_of_which_two_are_killed_sees_no_break_in_its_stream(three: Three) -> None:
    two, seen = three.two, []
    with LaunchClient(KEY, ",".join(each.url for each in (two.first, two.second, three.third))) as client:
        endpoint = client.get_model_endpoint("counted")
        assert isinstance(endpoint, StreamingEndpoint)
        for piece in endpoint.predict(args(**two.given(to=30))):
            seen.append(int(piece.value.split()[0]))
            if seen == [0, 1, 2]:
                two.kill()
                os.kill(two.second.pid, signal.SIGKILL)
                two.gate.touch()
    assert seen == list(range(30))
    assert two.runs() == 1


def test_a_task_goes_on_when_two_servers_are_killed_one_after_the_other(
    three: Three, servers: Servers
) -> None:
    two = three.two
    task = two.here.get_model_endpoint("later").predict(args(**two.given(value=7)))
    eventually(lambda: two.runs() == 1)
    two.kill()
    by_url = {two.second.url: two.second, three.third.url: three.third}
    holder = by_url.pop(eventually(lambda: url if (url := servers.holder()) in by_url else ""))
    os.kill(holder.pid, signal.SIGKILL)
    (left,) = by_url
    eventually(lambda: servers.holder() == left)
    assert two.runs() == 1
    two.gate.touch()
    with LaunchClient(KEY, left) as client:
        assert client.future(task.async_task_id).get(timeout=60).value == 7
    assert two.runs() == 1
