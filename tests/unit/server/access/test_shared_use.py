"""What is used at several servers counts once, at each of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from openlaunch.errors import TooManyRequests
from openlaunch.server.access.auth import Keyring
from openlaunch.server.access.tokens import Account
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.keys import Role

Test = Callable[[Keyring, Keyring, str], Awaitable[None]]


def at_two_servers(folder: Path, test: Test, **limits: float) -> None:
    async def main() -> None:
        store = await SqliteStore.open(folder / "openlaunch.db")
        here, there = Keyring(store), Keyring(store)
        _, key = await here.create("ada", Role.USER, **limits)
        for each in (here, there):
            await each.start()
        await test(here, there, key)
        for each in (here, there):
            await each.stop()
        await store.close()

    asyncio.run(main())


def say(here: Keyring, there: Keyring) -> None:
    """Have one server hear what was used at the other."""
    requests, tokens = here.use.take()
    there.use.used_elsewhere(requests.items(), [(*account, count) for account, count in tokens.items()])


def test_a_rate_is_shared_and_what_was_too_much_is_owed(tmp_path: Path) -> None:
    async def test(here: Keyring, there: Keyring, key: str) -> None:
        here.find(key).spend(8)
        say(here, there)
        say(here, there)  # what was said once is not said again
        there.find(key).spend(2)
        with pytest.raises(TooManyRequests):
            there.find(key).spend(1)
        here.find(key).spend(2)  # it has not heard of the others: 12 in all, of 10
        say(there, here)
        for each in (here, there):
            say(here, there)
            with pytest.raises(TooManyRequests) as refused:
                each.find(key).spend(1)
            assert (
                299 < refused.value.retry_after <= 300
            )  # three at 0.01 a second: two that are owed, and this one

    at_two_servers(tmp_path, test, requests_per_second=0.01, burst=10)


def test_requests_of_a_day_are_shared_and_stored_once(tmp_path: Path) -> None:
    async def test(here: Keyring, there: Keyring, key: str) -> None:
        for each, other, count in ((here, there, 3), (there, here, 4), (here, there, 5)):
            each.find(key).spend(count)
            say(each, other)
            await each.use._save_requests()
        for each in (here, there):
            with pytest.raises(TooManyRequests, match="and 12 were made"):
                each.find(key).spend(9)
        third = Keyring(here._store)
        await third.start()
        with pytest.raises(TooManyRequests, match="and 12 were made"):
            third.find(key).spend(9)
        await third.stop()

    at_two_servers(tmp_path, test, requests_per_day=20)


def test_tokens_are_shared_and_stored_once(tmp_path: Path) -> None:
    async def test(here: Keyring, there: Keyring, key: str) -> None:
        principal = here.find(key)
        account, now = Account(principal.key_id, "ada"), time.time()
        here.use.tokens.use(account, 150, now)
        there.use.tokens.check(account, now)
        say(here, there)
        with pytest.raises(TooManyRequests, match="100 tokens a minute"):
            there.use.tokens.check(account, now)
        for each in (here, there):
            await each.use._save_tokens()
        assert there.use.tokens.used_by("ada", now)["tokens_per_day"] == 150
        third = Keyring(here._store)
        await third.start()
        assert third.use.tokens.used_by("ada", now)["tokens_per_day"] == 150
        await third.stop()

    at_two_servers(tmp_path, test, tokens_per_minute=100)
