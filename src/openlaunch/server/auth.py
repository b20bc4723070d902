"""API keys: made, hashed, and looked up in memory on every request."""

import base64
import binascii
import hashlib
import secrets
import time
from dataclasses import dataclass

from openlaunch.errors import Forbidden, NotFound, Unauthorized
from openlaunch.store import keys as key_store
from openlaunch.store.base import Store
from openlaunch.store.records import KeyRecord
from openlaunch.wire.keys import Role

PREFIX_LENGTH = 9
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request it is, and what the key may do."""

    key_id: str
    owner: str
    role: Role

    def require_admin(self) -> None:
        """Do nothing for an admin.

        Raises:
            Forbidden: the key is not an admin's.
        """
        if self.role is not Role.ADMIN:
            raise Forbidden(f"this needs a key with the role admin; yours has the role {self.role.value}")


class Keyring:
    """All keys that are not revoked.

    Keys are 256 random bits, so one SHA-256 without salt is enough to store; a lookup by that digest tells
    nothing by its timing, since a guesser can't choose digests.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_digest: dict[bytes, Principal] = {}
        self._by_header: dict[bytes, Principal] = {}

    async def load(self) -> None:
        """Read the keys from the store; to be called before anything else, and after every change."""
        records = await self._store.read(key_store.active)
        self._by_digest = {r.digest: Principal(r.id, r.owner, r.role) for r in records}
        self._by_header.clear()

    def authenticate(self, header: bytes | None) -> Principal:
        """Whose key an Authorization header carries: Basic with the key as user name, or Bearer.

        Raises:
            Unauthorized: there is no header, or no key that is known and not revoked.
        """
        if header is None:
            raise Unauthorized(
                "no API key was sent: send it as the user name of HTTP Basic, or as a Bearer token"
            )
        principal = self._by_header.get(header)
        if principal is None:
            principal = self.find(_key_of(header))
            if principal is None:
                raise Unauthorized("the API key is unknown or has been revoked")
            if len(self._by_header) >= CACHE_SIZE:
                self._by_header.clear()
            self._by_header[header] = principal
        return principal

    def find(self, key: str) -> Principal | None:
        """Whose key this is, None for an unknown one."""
        return self._by_digest.get(_digest(key))

    async def create(self, owner: str, role: Role, key: str | None = None) -> tuple[KeyRecord, str]:
        """Make a key (or take the given one) and store its digest; the second value is the key itself."""
        key = key or "ol_" + secrets.token_urlsafe(32)
        record = KeyRecord(
            id="key_" + secrets.token_hex(10),
            owner=owner,
            role=role,
            prefix=key[:PREFIX_LENGTH],
            digest=_digest(key),
            created_at=time.time(),
        )
        await self._store.write(lambda conn: key_store.insert(conn, record))
        await self.load()
        return record, key

    async def revoke(self, key_id: str) -> None:
        """Revoke a key; it is refused from the moment this returns.

        Raises:
            NotFound: there is no such key, or it is revoked already.
        """
        if not await self._store.write(lambda conn: key_store.revoke(conn, key_id, time.time())):
            raise NotFound(f"no key {key_id!r} that is not revoked; list them with: openlaunch keys list")
        await self.load()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


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
