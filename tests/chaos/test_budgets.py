"""Budgets of tokens at several servers of a cluster, which count together."""

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from itertools import chain

import httpx2
import pytest
from agents import agents, settings_of
from chaos_server import ChaosServer
from cluster_servers import TOKEN, Servers, client_of
from openai_driver import ROUTES, mock_engine
from server_driver import eventually

pytestmark = pytest.mark.slow

LIMIT, COST = 200_000, 100
SLOTS = 16
CALLERS = 8
WRITES_SECONDS = 5.0
"""Between a server's writes of what was used, as limit-tokens.md says."""


@pytest.fixture
def two(servers: Servers) -> Iterator[tuple[ChaosServer, ChaosServer]]:
    with agents(1, token=TOKEN) as nodes, servers.two(**settings_of(nodes, TOKEN)) as (first, second):
        yield first, second


def spend(url: str, key: str) -> list[float]:
    """Ask until the day's tokens are used; return when each answer came."""
    said = {"prompt_tokens": COST - 1, "completion_tokens": 1}
    body = {"model": "admin/chat", "messages": [], "says_usage": said}
    answered = []
    with httpx2.Client(base_url=url, auth=(key, ""), timeout=60) as client:
        while (answer := client.post(ROUTES[0], json=body)).status_code == 200:
            answered.append(time.monotonic())
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")
    return answered


def test_two_servers_overshoot_a_days_tokens_by_no_more_than_is_documented(
    two: tuple[ChaosServer, ChaosServer], figure: Callable[[str], None]
) -> None:
    first, second = two
    with client_of(first) as here, client_of(second) as there:
        mock_engine(here, "chat", public_inference=True, per_worker=SLOTS).wait_until_ready(120)
        eventually(lambda: any(e.name == "chat" for e in there.list_model_endpoints()))
        key = here.create_api_key("ada").api_key
        here.set_quotas("ada", tokens_per_day=LIMIT)
        urls = [first.url, second.url] * CALLERS
        with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
            answers = sorted(chain(*pool.map(spend, urls, [key] * len(urls))))
        used = len(answers) * COST
        of_writes = [sum(at - WRITES_SECONDS < each <= at for each in answers) for at in answers]
        allowed = LIMIT + COST * (max(of_writes) + len(urls))
        figure(f"{used:,} of {LIMIT:,} tokens of a day used at two servers; {allowed:,} may be")
        assert LIMIT <= used <= allowed
        # Nothing that was used is lost, whichever server is asked.
        eventually(
            lambda: [each.list_quotas("ada")[0].used.tokens_per_day for each in (here, there)] == [used] * 2
        )
