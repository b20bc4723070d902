"""The ids of tasks, and the keys with which our client submits them."""

import pytest

from openlaunch.client.operations import predictions
from openlaunch.server import tasks


@pytest.fixture(params=["server", "client"])
def new_id(request, monkeypatch):
    """What makes an id at a time, in seconds."""
    if request.param == "server":
        return tasks._new_id

    def make(now):
        monkeypatch.setattr(predictions.time, "time_ns", lambda: round(now * 1e9))
        return predictions._submission("/", b"{}", {}).headers["idempotency-key"]

    return make


def test_ids_are_in_the_order_of_their_time(new_id):
    ids = [new_id(1.8e9 + n / 1000 + 0.0005) for n in range(20)]
    assert ids == sorted(ids)


def test_ids_of_one_moment_are_distinct_and_as_long(new_id):
    ids = {new_id(1.8e9) for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(one) for one in ids} == {32}
