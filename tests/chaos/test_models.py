"""How soon an engine hears that nobody wants its answer."""

import json
import time

import httpx2
from chaos_server import middle
from openai_driver import ROUTES, mock_engine
from server_driver import eventually, http, running

ROUNDS = 20
MOST_SECONDS = 1.0
"""Ten times what it may take on a machine that does nothing else."""


def seen(raw):
    answer = raw.post(ROUTES[0], json={"model": "chat", "seen": True})
    return json.loads(answer.json()["choices"][0]["message"]["content"])


def test_an_engine_hears_soon_that_its_caller_has_left(figure):
    with running() as client, http(client) as raw:
        mock_engine(client, "chat").wait_until_ready(120)
        body = {"model": "chat", "stream": True, "max_tokens": 10**6}
        took = []
        for number in range(ROUNDS):
            with httpx2.Client(base_url=client.server.url, auth=(client.server.api_key, "")) as leaving:
                with leaving.stream("POST", ROUTES[0], json=body, timeout=60) as answer:
                    next(answer.iter_raw())
                left_at = time.time()
            eventually(lambda number=number: seen(raw)["left"] > number)
            took.append(seen(raw)["left_at"] - left_at)
    figure(f"an engine heard after {1000 * middle(took):.0f} ms (median), {1000 * max(took):.0f} ms (most)")
    assert middle(took) < MOST_SECONDS
