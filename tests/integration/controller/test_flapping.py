"""Bounds of workers that change all the time: no request fails because of it."""

import random
import threading
import time
from collections import Counter

from server_driver import SMALL, http

SECONDS = 5
REQUESTS_AT_ONCE = 4


def echo(x):
    return x


def test_no_request_fails_while_the_bounds_flap(client):
    endpoint = client.deploy(echo, name="flap", min_workers=1, max_workers=3, per_worker=1, **SMALL)
    endpoint_id, over, answers = endpoint.model_endpoint.id, threading.Event(), Counter()

    def predict():
        with http(client) as raw:
            while not over.is_set():
                answer = raw.post(
                    "/v1/sync-tasks", params={"model_endpoint_id": endpoint_id}, json={"args": {"x": 7}}
                )
                answers[answer.status_code, answer.json().get("detail", "")] += 1

    threads = [threading.Thread(target=predict) for _ in range(REQUESTS_AT_ONCE)]
    for thread in threads:
        thread.start()
    chance, deadline, changes = random.Random(7), time.monotonic() + SECONDS, 0
    with http(client) as raw:
        while time.monotonic() < deadline:
            low = chance.randint(0, 3)
            bounds = {"min_workers": low, "max_workers": max(1, low + chance.randint(0, 2))}
            assert raw.put(f"/v1/model-endpoints/{endpoint_id}", json=bounds).status_code == 200
            changes += 1
    over.set()
    for thread in threads:
        thread.join()
    assert list(answers) == [(200, "")], answers
    assert answers.total() > 200
    assert changes > 10
