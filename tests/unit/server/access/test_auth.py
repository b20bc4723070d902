"""API keys: whose they are, and what is no key."""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable

import pytest

from openlaunch.errors import Forbidden, NotFound, TooManyRequests, Unauthorized
from openlaunch.server.access import auth, key_use
from openlaunch.server.access.auth import Keyring, Principal
from openlaunch.server.access.sessions import LINK_SECONDS, MAX_LINKS, PAGE_HEADER, SECONDS, Sessions
from openlaunch.server.access.tokens import Account
from openlaunch.store.keys import list_all
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.keys import Role


@pytest.fixture
def with_keyring(tmp_path):
    def run(test: Callable[[Keyring, SqliteStore], Awaitable[None]]) -> None:
        async def main() -> None:
            store = await SqliteStore.open(tmp_path / "openlaunch.db")
            try:
                keyring = Keyring(store)
                await keyring.start()
                await test(keyring, store)
                await keyring.stop()
            finally:
                await store.close()

        asyncio.run(main())

    return run


def basic(text: str | bytes) -> bytes:
    return b"Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_a_key_as_the_user_name_of_http_basic(with_keyring, scheme):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        record, key = await keyring.create("ada", Role.USER)
        for credentials in (f"{key}:", key, f"{key}:ignored", f"{key}::"):
            header = basic(credentials).replace(b"Basic", scheme.encode())
            assert keyring.authenticate(header) == Principal(record.id, "ada", Role.USER)

    with_keyring(test)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_key_as_a_bearer_token(with_keyring, scheme):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.ADMIN)
        assert keyring.authenticate(f"{scheme} {key}".encode()).owner == "ada"

    with_keyring(test)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!",
        b"Basic \xff",
        basic(b"\xff\xfe"),
        basic(""),
        basic(":"),
        basic("ol_wrong:"),
        b"Bearer",
        b"Bearer ",
        b"Bearer ol_wrong",
        b"Bearer \xff\xfe",
        b"Digest username=ada",
        b"ol_wrong",
        b" ",
        b"\x00",
    ],
)
def test_what_is_no_key(with_keyring, header):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        await keyring.create("ada", Role.USER)
        with pytest.raises(Unauthorized) as caught:
            keyring.authenticate(header)
        assert "ol_wrong" not in str(caught.value)

    with_keyring(test)


def test_a_revoked_key_is_refused_at_once_also_when_it_was_used_before(with_keyring):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        record, key = await keyring.create("ada", Role.USER)
        header = basic(f"{key}:")
        keyring.authenticate(header)
        await keyring.revoke(record.id)
        with pytest.raises(Unauthorized, match="unknown or has been revoked"):
            keyring.authenticate(header)
        assert keyring.find(key) is None

    with_keyring(test)


def test_revoking_what_is_not_there_or_twice(with_keyring):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        record, _ = await keyring.create("ada", Role.USER)
        await keyring.revoke(record.id)
        for key_id in (record.id, "key_missing"):
            with pytest.raises(NotFound, match=key_id):
                await keyring.revoke(key_id)

    with_keyring(test)


def test_only_the_digest_is_stored(with_keyring, tmp_path):
    async def test(keyring: Keyring, store: SqliteStore) -> None:
        record, key = await keyring.create("ada", Role.USER)
        (stored,) = await store.read(list_all)
        assert stored == record
        assert key not in repr(record)
        assert key.startswith(record.prefix)
        assert len(record.prefix) < len(key) / 4

        secret = key.encode()
        assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())

    with_keyring(test)


def test_keys_outlive_the_keyring(with_keyring):
    async def test(keyring: Keyring, store: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.USER, key="ol_given")
        other = Keyring(store)
        assert other.find(key) is None
        await other.start()
        assert key == "ol_given"
        assert other.find(key) is not None
        await other.stop()

    with_keyring(test)


def test_only_an_admin_is_an_admin():
    Principal("key_1", "ada", Role.ADMIN).require_admin()
    with pytest.raises(Forbidden, match="yours has the role user"):
        Principal("key_1", "ada", Role.USER).require_admin()


async def left_of_quota(store: SqliteStore, key: str, most: int) -> int:
    """How many requests a keyring that is new to the store lets the key make."""
    keyring = Keyring(store)
    await keyring.start()
    principal = keyring.find(key)
    made = 0
    try:
        while made <= most:
            principal.spend(1)
            made += 1
    except TooManyRequests:
        return made
    finally:
        keyring.use._saving.cancel()  # as a kill does: nothing of this is stored
    pytest.fail("there is no quota")


def test_what_a_key_has_used_of_its_quota_is_counted_of_all_servers(with_keyring):
    async def test(keyring: Keyring, store: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.USER, requests_per_day=10)
        other = Keyring(store)
        await other.start()
        for each, count in ((keyring, 3), (other, 4), (keyring, 1)):
            each.find(key).spend(count)
            await each.use._save_requests()
        await other.load()  # as it does every few seconds, and where another server has changed keys
        for each in (keyring, other):
            each.find(key).spend(0)
            with pytest.raises(TooManyRequests, match="and 8 were made"):
                each.find(key).spend(3)
        other.find(key).spend(2)
        await other.stop()
        assert await left_of_quota(store, key, 10) == 0

    with_keyring(test)


def test_what_a_key_has_used_of_its_quota_outlives_the_keyring(with_keyring):
    async def test(keyring: Keyring, store: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.USER, requests_per_day=5)
        keyring.find(key).spend(3)
        await keyring.stop()
        assert await left_of_quota(store, key, 5) == 2

    with_keyring(test)


def test_what_a_key_has_used_is_stored_while_it_is_used(with_keyring, monkeypatch):
    monkeypatch.setattr(key_use, "SAVE_SECONDS", 0.01)

    async def test(keyring: Keyring, store: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.USER, requests_per_day=5)
        for left in (4, 3):
            keyring.find(key).spend(1)
            async with asyncio.timeout(10):
                while await left_of_quota(store, key, 5) != left:
                    await asyncio.sleep(0.01)

    with_keyring(test)


def test_good_headers_are_kept_within_a_limit_of_bytes(with_keyring, monkeypatch):
    monkeypatch.setattr(auth, "CACHE_SIZE", 10)

    async def test(keyring: Keyring, _: SqliteStore) -> None:
        _, key = await keyring.create("ada", Role.PREDICT)
        for number in range(100):
            assert keyring.authenticate(basic(f"{key}:{number}")).owner == "ada"
            assert keyring.authenticate(basic(f"{key}:{number}{'x' * 40_000}")).owner == "ada"
        kept = keyring._by_header
        assert len(kept) <= 10
        assert sum(map(len, kept)) <= 10 * auth.MAX_CACHED_BYTES

    with_keyring(test)


def test_the_tokens_of_a_day_are_stored_and_read_again(with_keyring):
    used = []

    async def test(keyring: Keyring, store: SqliteStore) -> None:
        if not used:
            record, _ = await keyring.create("ada", Role.USER, tokens_per_day=100)
            used.append(record.id)
        keyring.use.tokens.use(Account(used[0], "ada"), 30, time.time())
        other = Keyring(store)
        await other.start()
        await keyring.stop()
        other.use.tokens.use(Account(used[0], "ada"), 5, time.time())
        await other.stop()
        used.append(other.use.tokens.key(used[0]).today_at(time.time()))

    with_keyring(test)
    with_keyring(test)
    assert used[1:] == [35, 70]


def test_a_key_that_is_lent_is_nobody_elses(with_keyring):
    async def test(keyring: Keyring, _: SqliteStore) -> None:
        lent = keyring.lend("token", "ada")
        await keyring.load()
        assert keyring.authenticate(f"Bearer {lent}".encode()).owner == "ada"
        for headers in ([], [(PAGE_HEADER, b"1")], [(PAGE_HEADER, b"1"), (b"cookie", b"=")]):
            with pytest.raises(Unauthorized):
                keyring.authenticate(None, headers)
        with pytest.raises(Unauthorized):
            keyring.sign_in(None, "no-link")
        with pytest.raises(Unauthorized):
            keyring.sign_in(None, keyring.make_link(""))

    with_keyring(test)


def test_nobody_pushes_out_the_links_of_another_key():
    sessions = Sessions(b"secret")
    link, own = sessions.make_link("key_ada", 0.0), sessions.make_link("key_bob", 0.0)
    more = [sessions.make_link("key_bob", 1.0) for _ in range(200)]
    assert sessions.use_link(link, 2.0) == "key_ada"
    assert sessions.use_link(own, 2.0) is None
    assert [sessions.use_link(each, 2.0) for each in more[-MAX_LINKS:]] == ["key_bob"] * MAX_LINKS
    old = sessions.make_link("key_ada", 0.0)
    sessions.make_link("key_bob", 10_000.0)
    assert sessions.use_link(old, 0.0) is None


def test_a_session_ends_and_so_does_a_link():
    sessions = Sessions(b"secret")
    cookie = f"{sessions.cookie}={sessions.make('key_ada', 1000.0)}".encode()
    headers = [(PAGE_HEADER, b"1"), (b"cookie", cookie)]
    assert sessions.key_of(headers, 1000.0 + SECONDS - 1) == "key_ada"
    assert sessions.key_of(headers, 1000.0 + SECONDS) is None
    assert Sessions(b"another").key_of(headers, 1000.0) is None
    link = sessions.make_link("key_ada", 1000.0)
    assert sessions.use_link(link, 1000.0 + LINK_SECONDS) is None


@pytest.mark.parametrize("text", [b'a="' + b"\\" * 60_000 + b'"', b"a=b; " * 12_000, b"=" * 60_000])
def test_a_strangers_cookies_take_no_time(text):
    begun = time.process_time()
    assert Sessions(b"secret").key_of([(PAGE_HEADER, b"1"), (b"cookie", text)], 0.0) is None
    assert time.process_time() - begun < 0.1
