"""What is changed under load fails no request: sync, async and streaming at the same time."""

import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, is_alive, running, send_signal
from threads import Threads

LONG_SECONDS = 300.0 if os.environ.get("OPENLAUNCH_CHAOS") == "long" else 0.0
"""The long form goes through all changes again and again for so long, the short one once."""

NAMES = {"sync": "ro-sync", "async": "ro-async", "streaming": "ro-stream"}
ITEMS = 3
TWO = {"min_workers": 2, "max_workers": 2}


def model(version, kind):
    """A predict function that says its version, what it was asked, and the process that it runs in."""

    def items(number):
        import os

        for _ in range(3):
            yield [version, number, f"{os.getcwd()}:{os.getpid()}"]

    def predict(number):
        import os
        import time

        time.sleep(0.005)
        return [version, number, f"{os.getcwd()}:{os.getpid()}"]

    return items if kind == "streaming" else predict


class Load(Threads):
    """Steady requests to endpoints from several threads each, as long as the `with` statement lasts.

    Every answer is held against its request: what does not fit is an error, as much as what raises.
    """

    def __init__(self, endpoints, threads=2):
        self.answered = Counter()
        self.newest, self.workers = {}, {}
        asks = {"sync": _ask_sync, "async": _ask_async, "streaming": _ask_streaming}
        self._clients = [(kind, n) for kind in endpoints for n in range(threads)]
        super().__init__(
            *(partial(self._ask, asks[each[0]], endpoints[each[0]], *each) for each in self._clients)
        )

    def _ask(self, ask, endpoint, kind, thread, number):
        for version, echo, worker in ask(endpoint, number):
            assert echo == number, f"{kind}: {echo} is not the answer to {number}"
            self.answered[kind, version] += 1
            self.newest[kind, thread], self.workers[kind] = version, worker

    def all_are(self, version):
        """Whether the last answer of every thread was this version's."""
        return len(self.newest) == len(self._clients) and set(self.newest.values()) == {version}

    def requests(self):
        return {kind: sum(n for (of, _), n in self.answered.items() if of == kind) for kind in NAMES}


def _ask_sync(endpoint, number):
    return [endpoint.predict(args(number=number)).value]


def _ask_async(endpoint, number):
    futures = endpoint.predict_many([args(number=number)] * 5)
    return [future.get(DEADLINE).value for future in futures]


def _ask_streaming(endpoint, number):
    """The last item of a stream that has all of them, and its end."""
    with endpoint.predict(args(number=number)) as stream:
        values = [item.value for item in stream]
    assert len(values) == ITEMS, f"{len(values)} items of {ITEMS}"
    return values[-1:]


@contextmanager
def under_load(client):
    """The three endpoints with version 0, and their load."""
    deploy(client, 0)
    endpoints = {kind: client.get_model_endpoint(name) for kind, name in NAMES.items()}
    for endpoint in endpoints.values():
        endpoint.wait_until_ready(DEADLINE)
    with Load(endpoints) as load:
        eventually(lambda: load.all_are(0))
        yield endpoints, load


def deploy(client, version):
    for kind, name in NAMES.items():
        client.deploy(model(version, kind), name=name, endpoint_type=kind, wait=False, **SMALL | TWO)


def restart(client, endpoints, load):
    """Every worker is replaced: the processes that answered before are gone."""
    before = dict(load.workers)
    for name in NAMES.values():
        client.restart_model_endpoint(name)
    for kind, endpoint in endpoints.items():
        endpoint.wait_until_ready(DEADLINE)
        eventually(lambda k=kind: not is_alive(before[k]))


def scale(client, endpoints, low, high):
    for name in NAMES.values():
        client.edit_model_endpoint(model_endpoint=name, min_workers=low, max_workers=high)
    for endpoint in endpoints.values():
        eventually(lambda e=endpoint: low <= e.worker_settings().available_workers <= high)


def terminate_one_worker_each(endpoints, load):
    """SIGTERM to a worker that serves: it ends, and another takes its place."""
    for kind, endpoint in endpoints.items():
        worker = load.workers[kind]
        send_signal(worker, signal.SIGTERM)
        eventually(lambda each=worker: not is_alive(each))
        eventually(lambda e=endpoint: e.worker_settings().available_workers == 2)


def promote_canaries(client, load, version):
    for kind, name in NAMES.items():
        function = model(version, kind)
        bundle = client.create_model_bundle_from_callable_v2(
            model_bundle_name=name,
            load_model_fn=lambda: None,
            load_predict_fn=lambda _, function=function: function,
        )
        client.start_canary(name, bundle, percent=20)
    eventually(lambda: all(load.answered[kind, version] > 10 for kind in NAMES))
    for name in NAMES.values():
        client.promote_canary(name)
    eventually(lambda: load.all_are(version))


@pytest.mark.timeout(LONG_SECONDS + 240)
def test_changes_under_load_fail_no_request(record_property):
    rounds, until = 0, time.monotonic() + LONG_SECONDS
    with running() as client, under_load(client) as (endpoints, load):
        while rounds == 0 or time.monotonic() < until:
            rounds += 1
            deploy(client, 2 * rounds)
            eventually(lambda r=rounds: load.all_are(2 * r))
            restart(client, endpoints, load)
            scale(client, endpoints, 3, 4)
            scale(client, endpoints, 1, 1)
            scale(client, endpoints, 2, 2)
            terminate_one_worker_each(endpoints, load)
            promote_canaries(client, load, 2 * rounds + 1)
    requests = load.requests()
    record_property(
        "figure",
        f"{sum(requests.values())} requests in {rounds} rounds of changes, {len(load.errors)} failed",
    )
    assert load.errors == []
    assert min(requests.values()) > 50
