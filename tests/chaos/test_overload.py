"""Ten times as many requests as the workers can do: who is taken, who is refused, and what it costs."""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable

import httpx2
import pytest
from chaos_server import DEADLINE, ChaosServer, memory_mib, middle
from load import Answer, Running
from server_driver import SMALL, args, eventually

from openlaunch import LaunchClient
from openlaunch.errors import APIError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in Linux's /proc"),
    pytest.mark.alone,
]

SLOTS = 2
WORK_SECONDS = 0.05
CAPACITY = SLOTS / WORK_SECONDS
QUEUE = 20
QUEUE_SECONDS = QUEUE / CAPACITY
SLACK_SECONDS = 0.5
"""What a machine that does other things beside may add."""

Figure = Callable[[str], None]


def work(seconds):
    time.sleep(seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("overload")
    with ChaosServer(root / "data", max_queued_requests=QUEUE) as server:
        with LaunchClient(server.api_key, server.url) as client:
            client.deploy(work, name="work", min_workers=1, max_workers=1, per_worker=SLOTS, **SMALL)
        yield server


@pytest.fixture
def client(server):
    with LaunchClient(server.api_key, server.url, max_retries=0) as client:
        yield client


@pytest.fixture
def endpoint(client):
    return client.get_model_endpoint("work")


@pytest.fixture
def load(server, endpoint):
    """Begins a load of so many times the capacity, for so many seconds."""
    running = []

    def begin(times: float, seconds: float) -> Running:
        path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        body = args(seconds=WORK_SECONDS).body().decode()
        running.append(Running(server.url, server.api_key, path, body, times * CAPACITY, seconds))
        return running[-1]

    yield begin
    for one in running:
        one.end()


def percentile(answers: list[Answer], share: float) -> float:
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def test_ten_times_the_load(server, endpoint, load, long_form, figure: Figure):
    calm = load(0.5, 2).wait(DEADLINE)
    assert {answer.status for answer in calm} == {200}
    memory_before = memory_mib(server.pid)
    seconds = 60 if long_form else 6
    answers = load(10, seconds).wait(seconds + DEADLINE)
    ended_at = time.monotonic()
    endpoint.predict(args(seconds=0))
    recovered = time.monotonic() - ended_at
    grown = memory_mib(server.pid) - memory_before

    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    taken = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    limit = percentile(calm, 0.99) + QUEUE_SECONDS
    figure(
        f"{len(answers)} requests in {seconds} s at 10 times the capacity: {len(taken)} taken, p99 "
        f"{percentile(taken, 0.99) * 1000:.0f} ms (unloaded {percentile(calm, 0.99) * 1000:.0f} ms, full queue "
        f"{QUEUE_SECONDS * 1000:.0f} ms); refused: p99 {percentile(refused, 0.99) * 1000:.0f} ms; memory "
        f"{grown:+.1f} MiB; next request after {recovered * 1000:.0f} ms"
    )
    assert len(taken) > 0.6 * CAPACITY * seconds, "the workers are kept busy"
    assert percentile(taken, 0.99) < limit + SLACK_SECONDS
    assert percentile(refused, 0.99) < SLACK_SECONDS, "at once"
    # A full queue takes half a second, which is one in whole seconds; five is said while nothing is known.
    late = [answer.retry_after for answer in refused if answer.begun > 3]
    assert all(wait is not None and wait >= 1 for wait in (answer.retry_after for answer in refused))
    assert max(late) <= 3
    assert grown < 32
    assert recovered < SLACK_SECONDS


def test_a_scrape_is_answered_meanwhile(server, load, figure: Figure):
    made = LaunchClient(server.api_key, server.url)
    with made as admin, httpx2.Client(auth=(admin.create_api_key("admin", "metrics").api_key, "")) as scraper:
        running, took, refused = load(10, 4), [], 0
        ends = time.monotonic() + 5
        while (began := time.monotonic()) < ends:
            scraped = scraper.get(f"{server.url}/metrics", timeout=DEADLINE)
            took.append(time.monotonic() - began)
            assert scraped.status_code == 200
            refused = int(re.search(r'outcome="429"} (\d+)', scraped.text)[1])
        assert len(running.wait(DEADLINE)) > 10 * CAPACITY
    assert refused > 0
    figure(f"{len(took)} scrapes at 10 times the capacity: at most {max(took) * 1000:.0f} ms")
    assert max(took) < 1 + SLACK_SECONDS


def outcome(endpoint, timeout: float) -> tuple[str, float]:
    """What a request with this deadline is told, and after how long."""
    began = time.monotonic()
    try:
        endpoint.predict(args(seconds=0), timeout=timeout)
    except APIError as error:
        return error.code, time.monotonic() - began
    return "answered", time.monotonic() - began


def test_a_deadline_that_would_pass_in_the_queue_is_refused_at_once(endpoint, load, figure: Figure):
    running = load(3, 5)
    # Until the rate is known, such a request waits in vain.
    eventually(lambda: outcome(endpoint, 0.2)[0] == "deadline_unreachable", 5)
    told = [outcome(endpoint, 0.2) for _ in range(5)]
    assert {code for code, _ in told} == {"deadline_unreachable"}
    seconds = middle([seconds for _, seconds in told])
    figure(f"a deadline in 200 ms with 500 ms of others ahead: refused after {seconds * 1000:.0f} ms")
    assert seconds < 0.2
    assert {answer.status for answer in running.wait(DEADLINE)} == {200, 429}
