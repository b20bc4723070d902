"""API keys: made, hashed, and looked up in memory on every request; and what each role may do."""

import base64
import binascii
import hashlib
import secrets
import time
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from openlaunch.errors import Forbidden, NotFound, Unauthorized
from openlaunch.server import clock
from openlaunch.server.access.key_use import KeyUse
from openlaunch.server.access.limits import Meter
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.sessions import PAGE_HEADER, Headers, Sessions
from openlaunch.server.access.tokens import Account
from openlaunch.server.asgi import SIGNED_OUT
from openlaunch.store import keys as key_store
from openlaunch.store.base import Store
from openlaunch.store.records import KeyRecord
from openlaunch.wire.ids import object_id
from openlaunch.wire.keys import Role

PREFIX_LENGTH = 9
CACHE_SIZE = 10_000
MAX_CACHED_BYTES = 256
"""Number of Authorization headers that are kept as good ones, and the size of one; a larger one is read each time."""

KEY_HEADER = b"x-api-key"
"""Where clients of language models send the key."""

PRINCIPAL = "openlaunch.principal"
"""Where a request's scope has the caller, once the key was found good."""

ACTING = "openlaunch.acting"
"""Where it has the caller as the owner that the request is made for, which an admin can choose."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request it is, and what the key may do. `meter` is None for a key without limits."""

    key_id: str
    owner: str
    role: Role
    expires_at: float | None = None
    meter: Meter | None = field(default=None, compare=False)

    @property
    def account(self) -> Account:
        """The account that pays for the tokens of a request."""
        return Account(self.key_id, self.owner)

    def require_user(self) -> None:
        if self.role is Role.PREDICT:
            raise Forbidden(
                "this needs a key with the role user or admin; yours has the role predict, which may predict, "
                "look at endpoints, and wait for and cancel tasks"
            )

    def require_admin(self) -> None:
        if self.role is not Role.ADMIN:
            raise Forbidden(f"this needs a key with the role admin; yours has the role {self.role.value}")

    def require_metrics(self) -> None:
        if self.role not in (Role.ADMIN, Role.METRICS):
            raise Forbidden(
                f"this needs a key with the role metrics or admin; yours has the role {self.role.value}"
            )

    def require_more_than_metrics(self) -> None:
        if self.role is Role.METRICS:
            raise Forbidden("this needs another key; yours has the role metrics, which reads /metrics alone")

    def acting_for(self, owner: str) -> "Principal":
        """Return the caller with this owner's things; raise Forbidden for other than an admin's and one's own."""
        if owner == self.owner:
            return self
        if self.role is not Role.ADMIN:
            raise Forbidden(
                f"what belongs to another owner than {self.owner!r} needs a key with the role admin; yours has the "
                f"role {self.role.value}"
            )
        return replace(self, owner=owner)

    def spend(self, requests: int) -> None:
        """Count predictions against the key's limits; raise TooManyRequests where one is exceeded."""
        if self.meter is not None:
            self.meter.spend(requests, time.time())

    @property
    def limit_headers(self) -> dict[str, str]:
        """Headers that say what is left of the key's limits on requests, as clients of OpenAI's API read them."""
        return {} if self.meter is None else self.meter.headers(time.time())


class Keyring:
    """All keys that are not revoked.

    Keys are 256 random bits, so one SHA-256 without salt is enough to store. No comparison here need be of constant
    time: what is looked up by a digest tells by its timing something of digests, of which a guesser can't choose one
    bit; and the headers that were found good are looked up by Python's hash, which is keyed anew in each process, and
    compared whole only where all of its 64 bits are equal.
    """

    def __init__(self, store: Store, secret: bytes = b"", quotas: Quotas | None = None) -> None:
        self._store = store
        self.use = KeyUse(store, quotas or Quotas())
        self.sessions = Sessions(secret or secrets.token_bytes(32))
        self._by_digest: dict[bytes, Principal] = {}
        self._by_id: dict[str, Principal] = {}
        self._by_header: dict[bytes, Principal] = {}
        self._lent: dict[str, tuple[str, str]] = {}
        """Keys that workers have for their calls, with their owners."""
        self.owners: set[str] = set()
        """The owners that have, or had, a key."""

    async def start(self) -> None:
        """Read the keys and what they have used, and store that from now on; to be called before anything else."""
        await self.load()
        await self.use.start()

    async def stop(self) -> None:
        """Store what was used, for the last time."""
        await self.use.stop()

    async def load(self) -> None:
        """Read the keys from the store, and how much of their limits is used; to be called after every change."""
        async with self.use.moves:
            records, self.owners, stored = await self._store.read(
                lambda c: (key_store.active(c), key_store.owners(c), key_store.usage(c))
            )
            self.use.set_keys(records, stored)
        self._by_digest = {
            r.digest: Principal(r.id, r.owner, r.role, r.expires_at, self.use.meters.get(r.id))
            for r in records
        }
        self._by_id = {principal.key_id: principal for principal in self._by_digest.values()}
        # Only now: a key that is lent has no id, and nothing but the key itself leads to it.
        for key, owner in self._lent.values():
            self._by_digest[_digest(key)] = Principal("", owner, Role.PREDICT)
        self._by_header.clear()

    def lend(self, token: str, owner: str) -> str:
        """Return a key of the owner for predictions alone, until it is taken back; the token names it."""
        if token not in self._lent:
            self._lent[token] = key, _ = secrets.token_urlsafe(32), owner
            self._by_digest[_digest(key)] = Principal("", owner, Role.PREDICT)
        return self._lent[token][0]

    def take_back(self, token: str) -> None:
        """Have a key that was lent no longer be good."""
        if (lent := self._lent.pop(token, None)) is not None:
            self._by_digest.pop(_digest(lent[0]), None)
            self._by_header.clear()

    def check_owner(self, owner: str) -> None:
        """Raise NotFound for a name that nobody has or had a key of."""
        if owner in self.owners:
            return
        similar = get_close_matches(owner, self.owners)
        hint = f"; similar names: {', '.join(similar)}" if similar else ""
        raise NotFound(
            f"there is no owner {owner!r}: nobody has a key of this name{hint}", code="owner_not_found"
        )

    def authenticate(self, header: bytes | None, headers: Headers = ()) -> Principal:
        """Return whose key an Authorization header carries: Basic with the key as user name, or Bearer.

        Without that header, `headers` are all of a request, which may have an X-API-Key or a session of the page.

        Raises:
            Unauthorized: there is neither, or no key that is known, not revoked and not expired.
            Forbidden: the key has the role metrics. Its header is never kept, so that no other one pays for this.
        """
        if header is None and (header := _of_key_header(headers)) is None:
            return self._of_session(headers)
        principal = self._by_header.get(header)
        if principal is None:
            principal = self._of_header(header)
            principal.require_more_than_metrics()
            if len(header) <= MAX_CACHED_BYTES:
                if len(self._by_header) >= CACHE_SIZE:
                    self._by_header.clear()
                self._by_header[header] = principal
        return principal if principal.expires_at is None else _unexpired(principal)

    def authenticate_scraper(self, header: bytes | None, headers: Headers = ()) -> Principal:
        """Return whose key a request for `/metrics` carries; raise Forbidden where it has another role."""
        header = _of_key_header(headers) if header is None else header
        principal = self._of_session(headers) if header is None else self._of_header(header)
        principal.require_metrics()
        return _unexpired(principal)

    def _of_header(self, header: bytes) -> Principal:
        principal = self.find(_key_of(header))
        if principal is None:
            raise Unauthorized("the API key is unknown or has been revoked")
        return principal

    def _of_session(self, headers: Headers) -> Principal:
        key_id = self.sessions.key_of(headers, time.time())
        principal = None if key_id is None else self._by_id.get(key_id)
        if principal is not None:
            return _unexpired(principal)
        if any(name == PAGE_HEADER for name, _ in headers):
            raise Unauthorized("you are not signed in, or no longer: sign in with a key", code=SIGNED_OUT)
        raise Unauthorized(
            "no API key was sent: send it as a Bearer token, in X-API-Key, or as the user name of HTTP Basic"
        )

    def sign_in(self, key: str | None, link: str | None) -> tuple[Principal, str]:
        """Return whose a key is, or the key of a link, and the value of the cookie of a new session.

        Raises:
            Unauthorized: the key or the link is not good, or no longer.
        """
        now = time.time()
        if link is None:
            principal = self.find(key or "")
        else:
            key_id = self.sessions.use_link(link, now)
            principal = None if key_id is None else self._by_id.get(key_id)
        if principal is None:
            text = (
                "the API key is unknown or has been revoked"
                if link is None
                else "the link was used already, or is too old: sign in with a key, or type openlaunch ui again"
            )
            raise Unauthorized(text, code=SIGNED_OUT)
        principal.require_more_than_metrics()
        return _unexpired(principal), self.sessions.make(principal.key_id, now)

    def make_link(self, key_id: str) -> str:
        """Return the token of a link that signs in once with a key."""
        return self.sessions.make_link(key_id, time.time())

    def find(self, key: str) -> Principal | None:
        return self._by_digest.get(_digest(key))

    async def create(
        self, owner: str, role: Role, key: str | None = None, **more: Any
    ) -> tuple[KeyRecord, str]:
        """Make a key (or take the given one) and store its digest; return its record and the key itself.

        `more` are its limits and `expires_at`, as in its record.
        """
        key = key or "ol_" + secrets.token_urlsafe(32)
        record = KeyRecord(
            id=object_id("key"),
            owner=owner,
            role=role,
            prefix=key[:PREFIX_LENGTH],
            digest=_digest(key),
            created_at=clock.now(),
            **more,
        )
        await self._store.write(lambda conn: key_store.insert(conn, record))
        await self.load()
        return record, key

    async def change(self, key_id: str, **values: Any) -> KeyRecord:
        """Change the named limits or `expires_at` of a key that is not revoked, from the moment this returns."""
        record = await self._store.write(lambda conn: key_store.change(conn, key_id, **values))
        if record is None:
            raise _no_key(key_id)
        await self.load()
        return record

    async def revoke(self, key_id: str) -> None:
        """Revoke a key that is not revoked yet; it is refused from the moment this returns."""
        if not await self._store.write(lambda conn: key_store.revoke(conn, key_id, clock.now())):
            raise _no_key(key_id)
        await self.load()


def _unexpired(principal: Principal) -> Principal:
    if principal.expires_at is not None and principal.expires_at <= time.time():
        raise Unauthorized("the API key has expired: ask an admin for another one", code="key_expired")
    return principal


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"no key {key_id!r} that is not revoked; list them with: openlaunch keys list")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _of_key_header(headers: Headers) -> bytes | None:
    """Return an X-API-Key as the Authorization header that means the same."""
    key = next((value for name, value in headers if name == KEY_HEADER), None)
    return None if key is None else b"Bearer " + key


def _key_of(header: bytes) -> str:
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip().decode("latin-1")
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthorized("the Authorization header is not valid HTTP Basic") from None
    raise Unauthorized("the Authorization header is neither Basic nor Bearer")
