"""Good users beside an attacker of each kind, for ten minutes: nothing of theirs fails, the server stays small."""

import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from attackers import KINDS, attacking
from chaos_server import ChaosServer, descriptors
from server_driver import SMALL, eventually
from soak import CLIENTS, MODELS, Load, Watch, deploy, is_quiet

from openlaunch import LaunchClient

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads processes in Linux's /proc")

SHORT_SECONDS, LONG_SECONDS = 8.0, 600.0

MEMORY_MIB = 64.0
"""The server's memory may grow by so much between the second fifth of the time and the last."""

DESCRIPTORS = 200
"""So many more may be open: each attacker keeps some connections, and by chance more or fewer."""


def echo(n=0, size=0, seconds=0):
    return "x" * size if size else n


def echoes(n=0, seconds=0):
    import time

    for item in range(20):
        time.sleep(seconds / 20)
        yield item


def deploy_public(client: LaunchClient) -> list[str]:
    """Deploy what the attackers may call, and return the ids."""
    sync = client.deploy(echo, name="public", max_workers=1, public_inference=True, **SMALL)
    stream = client.deploy(echoes, name="public-stream", max_workers=1, public_inference=True, **SMALL)
    return [sync.model_endpoint.id, stream.model_endpoint.id]


def delete_all(client: LaunchClient) -> None:
    for endpoint in client.list_model_endpoints():
        client.delete_model_endpoint(endpoint.name)


def test_attackers_fail_no_request_of_others(
    tmp_path, chance: random.Random, long_form: bool, figure: Callable[[str], None]
):
    seconds = LONG_SECONDS if long_form else SHORT_SECONDS
    with ChaosServer(tmp_path / "data") as server, ExitStack() as stack:

        def client_with(key: str) -> LaunchClient:
            return stack.enter_context(LaunchClient(key, server.url, max_retries=0))

        admin = client_with(server.api_key)
        keys = {
            "stranger": "",
            "caller": admin.create_api_key("caller", "predict").api_key,
            "user": admin.create_api_key("attacker", "user").api_key,
        }
        user, good = client_with(keys["user"]), client_with(admin.create_api_key("good", "user").api_key)
        public = deploy_public(admin)
        endpoints = {name: deploy(good, name) for name in MODELS}
        watch = Watch(server)
        with ExitStack() as attacks:
            seeds = {kind: chance.randrange(10**6) for kind in KINDS}
            moves = {
                kind: attacks.enter_context(
                    attacking(kind, server.url, keys[kind], seconds, seeds[kind], *public)
                )
                for kind in KINDS
            }
            with Load(endpoints) as load:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    time.sleep(0.2)
                    watch.look()
                    assert load.errors == []
        for client in (good, user, admin):
            delete_all(client)
        eventually(lambda: is_quiet(server))
        eventually(lambda: not watch.left())
        open_after = descriptors(server.pid)

    early, late = watch.early_and_late()
    figure(
        f"{sum(load.right.values())} answers in {seconds:g} s, all right, beside {moves}; "
        f"memory {early.memory:.1f} → {late.memory:.1f} MiB; "
        f"descriptors {early.descriptors} → {late.descriptors}, with nothing running {open_after}"
    )
    assert load.errors == []
    assert load.died == []
    assert all(load.right[name, client] > 10 for name in MODELS for client in range(CLIENTS))
    assert late.memory - early.memory < MEMORY_MIB
    assert late.descriptors - early.descriptors < DESCRIPTORS
