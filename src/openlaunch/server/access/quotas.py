"""Quotas: how much each owner may have. What would exceed one is refused with its numbers.

The check is in the transaction of the change, so two changes at once can't both take the last place. What waiting
mends, a full queue, is a 429; everything else is a 403. Both have the code `quota_exceeded`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection

from openlaunch.errors import Forbidden, TooManyRequests
from openlaunch.server.settings import QuotaSettings
from openlaunch.store import quotas as quota_store
from openlaunch.wire.quotas import DEFAULT, QUOTAS, UNLIMITED, plain

T = TypeVar("T")
CODE = "quota_exceeded"
_BYTES = ("memory", "stored_bytes")


class Quotas:
    """The limits of all owners, in memory, and what is refused because of them."""

    def __init__(self, settings: QuotaSettings | None = None) -> None:
        given = {name: getattr(settings, f"quota_{name}", None) for name in QUOTAS}
        self._default: dict[str, float] = {name: limit for name, limit in given.items() if limit is not None}
        self._by_owner: dict[str, dict[str, float]] = {}

    def set_all(self, limits: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what admins have set, by owner."""
        self._by_owner = {owner: self._merged(own) for owner, own in limits.items()}

    def _merged(self, own: Mapping[str, Any]) -> dict[str, float]:
        set_by_admins = {name: limit for name, limit in own.items() if limit != DEFAULT}
        merged = self._default | set_by_admins
        return {name: limit for name, limit in merged.items() if limit != UNLIMITED}

    def of(self, owner: str) -> Mapping[str, float]:
        """Return the owner's limits; what is not in it is unlimited."""
        return self._by_owner.get(owner, self._default)

    def within(self, owner: str, change: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Return a change that is refused, and undone with its transaction, if the owner would have too much by it.

        Where the owner has too much already, because a quota was lowered, changes that take no more are let through.
        """
        if not self.of(owner):
            return change

        def checked(conn: Connection) -> T:
            quota_store.hold(conn, owner)
            before = quota_store.reserved(conn, owner)
            result = change(conn)
            self.check(owner, quota_store.reserved(conn, owner), before)
            return result

        return checked

    def check(self, owner: str, after: Mapping[str, float], before: Mapping[str, float]) -> None:
        """Raise Forbidden for what is more than before, and more than is allowed."""
        over = [
            f"{_shown(name, after[name])} {_NOUNS[name]}, and {_shown(name, limit)} are allowed"
            for name, limit in self.of(owner).items()
            if name in after and after[name] > max(limit, before.get(name, 0))
        ]
        if over:
            raise Forbidden(
                f"the owner {owner!r} would have {'; '.join(over)}: ask for less, delete what is not needed, or have "
                "an admin raise the quota",
                code=CODE,
            )

    def check_queued(self, owner: str, waiting: int, count: int, retry_after: float) -> None:
        """Raise TooManyRequests if more tasks of the owner would wait, with `count` new ones, than are allowed."""
        limit = self.of(owner)["queued_tasks"]
        if waiting + count > limit:
            raise TooManyRequests(
                f"{waiting} task{' of' if waiting == 1 else 's of'} the owner {owner!r} "
                f"{'waits' if waiting == 1 else 'wait'} already, {count} more would be {waiting + count}, and "
                f"{plain(limit)} {'is' if limit == 1 else 'are'} allowed: wait, or have an admin raise the quota",
                code=CODE,
                retry_after=retry_after,
            )


_NOUNS = {
    "endpoints": "endpoints",
    "workers": "workers (the sum of max_workers)",
    "cpus": "cpus in all workers",
    "memory": "of memory in all workers",
    "gpus": "GPUs in all workers",
    "stored_bytes": "stored",
}


def _shown(name: str, amount: float) -> str:
    return f"{plain(amount):,} bytes" if name in _BYTES else f"{plain(round(amount, 3)):,}"
