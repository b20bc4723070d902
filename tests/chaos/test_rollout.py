"""What is changed under load fails no request: sync, async and streaming at the same time."""

import os
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from server_driver import DEADLINE, SMALL, args, eventually, running  # noqa: E402

LONG = float(os.environ.get("OPENLAUNCH_CHAOS_SECONDS", "0"))
"""Seconds for which the long form goes on; the short form goes through everything once."""

NAMES = {"sync": "ro-sync", "async": "ro-async", "streaming": "ro-stream"}


def model(version, kind):
    """A predict function that says its version, and the process that it runs in."""

    def items(number):
        import os

        for _ in range(3):
            yield [version, number, os.getpid()]

    def predict(number):
        import os
        import time

        time.sleep(0.005)
        return [version, number, os.getpid()]

    return items if kind == "streaming" else predict


class Load:
    """Steady requests to three endpoints from several threads each, as long as the `with` statement lasts.

    Every answer is held against its request; what does not fit is an error as much as what raises.
    """

    def __init__(self, client, endpoints, threads=2):
        self.answers = Counter()
        self.newest = {}
        self.pids = {}
        self.errors = []
        self._client = client
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, endpoint, thread))
            for kind, endpoint in endpoints.items()
            for thread in range(threads)
        ]

    def _run(self, kind, endpoint, thread):
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                for version, echo, pid in getattr(self, f"_{kind}")(endpoint, number):
                    assert echo == number, f"{echo} is not the answer to {number}"
                    self.answers[kind, version] += 1
                    self.newest[kind, thread] = version
                    self.pids[kind] = pid
            except Exception as error:
                self.errors.append((kind, error))

    def _sync(self, endpoint, number):
        return [endpoint.predict(args(number=number)).value]

    def _async(self, endpoint, number):
        futures = endpoint.predict_many([args(number=number)] * 5)
        return [future.get(DEADLINE).value for future in futures]

    def _streaming(self, endpoint, number):
        with endpoint.predict(args(number=number)) as stream:
            values = [item.value for item in stream]
        assert len(values) == 3, f"{len(values)} items of 3"
        return values

    def all_are(self, version):
        return len(self.newest) == len(self._threads) and set(self.newest.values()) == {version}

    def requests(self):
        counts = Counter()
        for (kind, _), count in self.answers.items():
            counts[kind] += count // 3 if kind == "streaming" else count
        return dict(counts)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)


@contextmanager
def under_load(client):
    """The three endpoints with version 0, and their load."""
    endpoints = {
        kind: client.deploy(
            model(0, kind), name=name, endpoint_type=kind, min_workers=2, max_workers=2, **SMALL
        )
        for kind, name in NAMES.items()
    }
    with Load(client, endpoints) as load:
        eventually(lambda: load.all_are(0))
        yield endpoints, load


def scale(client, endpoints, low, high):
    for name in NAMES.values():
        client.edit_model_endpoint(model_endpoint=name, min_workers=low, max_workers=high)
    for endpoint in endpoints.values():
        eventually(lambda e=endpoint: low <= e.worker_settings().available_workers <= high)


def change_bundles(client, load, version):
    for kind, name in NAMES.items():
        client.deploy(model(version, kind), name=name, endpoint_type=kind, wait=False, **SMALL | KEEP)
    eventually(lambda: load.all_are(version))


KEEP = {"min_workers": 2, "max_workers": 2}


def restart(client, endpoints, load):
    before = {kind: set() for kind in NAMES}
    for name in NAMES.values():
        client.restart_model_endpoint(name)
    for endpoint in endpoints.values():
        endpoint.wait_until_ready(DEADLINE)
    return before


def terminate_one_worker_of_each(endpoints, load):
    """SIGTERM to a worker that is serving; it is replaced."""
    for kind, endpoint in endpoints.items():
        pid = load.pids[kind]
        os.kill(pid, signal.SIGTERM)
        eventually(lambda k=kind, p=pid: load.pids[k] != p and not _exists(p))
        eventually(lambda e=endpoint: e.worker_settings().available_workers == 2)


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def canary(client, load, endpoints, version):
    """A canary on each endpoint, promoted."""
    for kind, name in NAMES.items():
        bundle = bundle_of(client, model(version, kind), name)
        client.start_canary(name, bundle, percent=20)
    for name in NAMES.values():
        client.wait_for_canary(name, DEADLINE)
    eventually(lambda: all(load.answers[kind, version] > 10 for kind in NAMES))
    for name in NAMES.values():
        client.promote_canary(name)
    eventually(lambda: load.all_are(version))


def bundle_of(client, fn, name):
    return client.create_model_bundle_from_callable_v2(
        model_bundle_name=name, load_model_fn=lambda: None, load_predict_fn=lambda model: fn
    )


@pytest.mark.slow
def test_changes_under_load_fail_no_request():
    with running() as client, under_load(client) as (endpoints, load):
        change_bundles(client, load, 1)
        restart(client, endpoints, load)
        scale(client, endpoints, 3, 4)
        scale(client, endpoints, 1, 1)
        scale(client, endpoints, 2, 2)
        terminate_one_worker_of_each(endpoints, load)
        canary(client, load, endpoints, 2)
    print(f"answered: {load.requests()}, failed: {len(load.errors)}")
    assert load.errors == []
    assert min(load.requests().values()) > 100
