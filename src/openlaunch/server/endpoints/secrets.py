"""The secrets of owners, and the endpoints that use them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from openlaunch.engines.base import EngineError
from openlaunch.errors import ConfigurationError, Conflict, Forbidden, NotFound, Unavailable
from openlaunch.server import clock
from openlaunch.server.access.vault import Undecipherable, Vault
from openlaunch.server.endpoints import changes
from openlaunch.server.endpoints.service import Workers
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store import secrets as secret_store
from openlaunch.store.base import Store
from openlaunch.store.records import EndpointRecord, SecretRecord
from openlaunch.wire.events import EventKind
from openlaunch.wire.keys import ALL_OWNERS
from openlaunch.wire.secrets import MAX_SECRETS, SecretSummary, variable_of


class SecretValues:
    """Reads the secrets of an endpoint for its workers."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def __call__(self, owner: str, names: Sequence[str]) -> Mapping[str, str]:
        """Return the variables that the owner's secrets are in; raise `EngineError` where one can't be read."""
        if not names:
            return {}
        found = await self._store.read(lambda conn: secret_store.of_owner(conn, owner, names))
        if missing := sorted(set(names) - {each.name for each in found}):
            raise EngineError(
                f"the secret {missing[0]!r} does not exist: make it with `openlaunch secrets set {missing[0]}`"
            )
        try:
            return {variable_of(each.name): self._vault.open(owner, each.name, each.sealed) for each in found}
        except (Undecipherable, ConfigurationError) as error:
            raise EngineError(str(error)) from None


class Secrets:
    """Sets, lists and deletes secrets; the endpoints that use a changed one get new workers."""

    def __init__(self, store: Store, vault: Vault, workers: Workers) -> None:
        self._store = store
        self._vault = vault
        self._workers = workers

    async def set(self, owner: str, name: str, value: str) -> SecretSummary:
        """Store a secret, and replace the workers that have another value of it.

        Raises:
            Conflict: an endpoint that uses it has a canary.
            Forbidden: the owner would have too many.
            Unavailable: this server has no key for secrets.
        """

        def write(conn: Connection) -> tuple[SecretRecord, list[EndpointRecord], list[EndpointRecord]]:
            # Encrypted here, in turn with `rotate`, which forgets the old key when it has encrypted all anew.
            secret = SecretRecord(owner, name, self._sealed(owner, name, value), clock.now())
            kept = {each.name: each for each in secret_store.of_owner(conn, owner)}
            if name not in kept and len(kept) >= MAX_SECRETS:
                raise Forbidden(
                    f"{owner} has {len(kept)} secrets, the most that are allowed: delete one first"
                )
            users = endpoint_store.with_secret(conn, owner, name)
            if name in kept and self._is(kept[name], value):
                return kept[name], users, []
            restarted = [_restarted(conn, each) for each in users]
            secret_store.put(conn, secret)
            return secret, users, restarted

        secret, users, restarted = await self._store.write(write, owner)
        for endpoint in restarted:
            self._workers.apply(endpoint)
            self._workers.events.add(endpoint.id, EventKind.RESTARTED, f"the secret {name} has changed")
        return _summary(secret, users)

    def _sealed(self, owner: str, name: str, value: str) -> bytes:
        try:
            return self._vault.seal(owner, name, value)
        except ConfigurationError as error:
            raise Unavailable(str(error), code="no_secrets_key") from None

    def _is(self, kept: SecretRecord, value: str) -> bool:
        try:
            return self._vault.open(kept.owner, kept.name, kept.sealed) == value
        except Undecipherable:
            return False

    async def list_of(self, owner: str) -> list[SecretSummary]:
        def read(conn: Connection) -> list[SecretSummary]:
            everybodys = owner == ALL_OWNERS
            found = secret_store.list_all(conn) if everybodys else secret_store.of_owner(conn, owner)
            return [_summary(each, endpoint_store.with_secret(conn, each.owner, each.name)) for each in found]

        return await self._store.read(read, owner)

    async def delete(self, owner: str, name: str) -> None:
        """Delete a secret. Raise NotFound if there is none, Conflict if an endpoint uses it."""

        def write(conn: Connection) -> bool:
            if users := endpoint_store.with_secret(conn, owner, name):
                raise Conflict(
                    f"the secret {name!r} is used by {', '.join(each.name for each in users[:5])}: give "
                    f"{'it' if len(users) == 1 else 'them'} other secrets first, or set this one to another value",
                    code="secret_used",
                )
            return secret_store.remove(conn, owner, name)

        if not await self._store.write(write, owner):
            raise NotFound(f"there is no secret {name!r}", code="secret_not_found")

    async def rotate(self) -> int:
        """Encrypt everybody's secrets with a new key, and return how many there are.

        Raises:
            Conflict: one can't be decrypted; all stay as they are.
            Unavailable: this server has no key for secrets.
        """
        try:
            forget_old = self._vault.add_key()
        except ConfigurationError as error:
            raise Unavailable(str(error), code="no_secrets_key") from None

        def write(conn: Connection) -> int:
            found = secret_store.list_all(conn)
            for each in found:
                value = self._vault.open(each.owner, each.name, each.sealed)
                secret_store.put(conn, replace(each, sealed=self._vault.seal(each.owner, each.name, value)))
            return len(found)

        try:
            count = await self._store.write(write)
        except Undecipherable as error:
            raise Conflict(str(error), code="secret_undecipherable") from None
        forget_old()
        return count


def _restarted(conn: Connection, endpoint: EndpointRecord) -> EndpointRecord:
    changed = replace(changes.restarted(endpoint), updated_at=clock.now())
    endpoint_store.update(conn, changed)
    return changed


def _summary(secret: SecretRecord, users: list[EndpointRecord]) -> SecretSummary:
    return SecretSummary.model_validate(
        {
            "name": secret.name,
            "owner": secret.owner,
            "variable": variable_of(secret.name),
            "updated_at": secret.updated_at,
            "endpoints": [each.name for each in users],
        }
    )
