"""Tasks that are claimed before there is a slot for them, because those before them were quick."""

import time

from server_driver import DEADLINE, SMALL, args


def nap(seconds):
    time.sleep(seconds)
    return seconds


def test_what_was_claimed_ahead_has_all_of_its_time(client):
    endpoint = client.deploy(nap, name="ahead", endpoint_type="async", max_workers=1, per_worker=1, **SMALL)
    for future in endpoint.predict_many([args(seconds=0)] * 100):
        future.get(DEADLINE)
    futures = [endpoint.predict(args(seconds=0.9), timeout=2.0) for _ in range(3)]
    assert [future.get(DEADLINE).value for future in futures] == [0.9] * 3
