"""Budgets of tokens: how many of a model's tokens keys and owners have used, and may use, a minute and a day.

What a request takes is known when it has ended. So one is admitted while anything is left, and pays afterwards.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from openlaunch.errors import TooManyRequests
from openlaunch.server.access.limits import DAY_SECONDS
from openlaunch.server.access.quotas import Quotas

MINUTE_SECONDS = 60.0
PER_MINUTE, PER_DAY = "tokens_per_minute", "tokens_per_day"


class Account(NamedTuple):
    """The key and the owner that pay for a request."""

    key_id: str
    owner: str


@dataclass(slots=True)
class Spent:
    """What a key or an owner has used: `missing` tokens of a minute's bucket as of `at`, `today` of a UTC `day`."""

    missing: float = 0.0
    at: float = 0.0
    day: int = 0
    today: int = 0

    def missing_at(self, limit: float, now: float) -> float:
        """Return how many tokens of a bucket that holds a minute's are missing now."""
        return max(0.0, self.missing - limit * max(0.0, now - self.at) / MINUTE_SECONDS)

    def today_at(self, now: float) -> int:
        return self.today if self.day == now // DAY_SECONDS else 0

    def use(self, tokens: int, limit: float, now: float) -> None:
        """Count tokens; without a limit the bucket is filled within a minute."""
        self.missing = self.missing_at(limit, now) + tokens
        self.at = now
        self.today, self.day = self.today_at(now) + tokens, int(now // DAY_SECONDS)

    def check(self, whose: str, limits: Mapping[str, float], now: float) -> None:
        """Raise TooManyRequests where nothing is left; `retry_after` is when something is."""
        minute, day = limits.get(PER_MINUTE), limits.get(PER_DAY)
        if minute is not None and (missing := self.missing_at(minute, now)) >= minute:
            raise TooManyRequests(
                f"{whose} may use {minute:,.0f} tokens a minute, and has used them: wait, or have an admin raise the "
                "limit",
                code="rate_limited",
                retry_after=(missing - minute + 1) * MINUTE_SECONDS / max(minute, 1),
            )
        if day is not None and (used := self.today_at(now)) >= day:
            raise TooManyRequests(
                f"{whose} may use {day:,.0f} tokens a day, and {used:,} were used since 0:00 UTC: wait for tomorrow, "
                "or have an admin raise the limit",
                code="quota_exceeded",
                retry_after=(now // DAY_SECONDS + 1) * DAY_SECONDS - now,
            )


class TokenBudgets:
    """The tokens of all keys and owners. Used in the event loop's thread."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._of_keys: dict[str, dict[str, float]] = {}
        self._keys: dict[str, Spent] = {}
        self._owners: dict[str, Spent] = {}
        self._unsaved: dict[tuple[int, Account], int] = {}
        """Tokens that are not stored yet, by the day on which they were used."""
        self._unsaid: dict[Account, int] = {}
        """Tokens that other servers do not know of yet."""

    def set_limits(self, of_keys: Mapping[str, dict[str, float]]) -> None:
        """Take over the limits of keys, by their ids; what they have used stays."""
        self._of_keys = dict(of_keys)

    def check(self, account: Account, now: float) -> None:
        """Raise TooManyRequests where the key or its owner has nothing left."""
        if limits := self._of_keys.get(account.key_id):
            self.key(account.key_id).check("this key", limits, now)
        self._owner(account.owner).check(f"the owner {account.owner!r}", self._quotas.of(account.owner), now)

    def is_limited(self, account: Account) -> bool:
        """Return whether there is any limit for the key or its owner."""
        return account.key_id in self._of_keys or not {PER_MINUTE, PER_DAY}.isdisjoint(
            self._quotas.of(account.owner)
        )

    def use(self, account: Account, tokens: int, now: float) -> None:
        """Count the tokens that a request took."""
        if not tokens:
            return
        self._count(account, tokens, now)
        used = int(now // DAY_SECONDS), account
        self._unsaved[used] = self._unsaved.get(used, 0) + tokens
        self._unsaid[account] = self._unsaid.get(account, 0) + tokens

    def add(self, account: Account, tokens: int, now: float) -> None:
        """Count the tokens of a request at another server, which stores them."""
        self._count(account, tokens, now)

    def take_unsaid(self) -> dict[Account, int]:
        """Return what was used here since the last call."""
        unsaid, self._unsaid = self._unsaid, {}
        return unsaid

    def _count(self, account: Account, tokens: int, now: float) -> None:
        of_key = self._of_keys.get(account.key_id, {}).get(PER_MINUTE, tokens)
        self.key(account.key_id).use(tokens, of_key, now)
        of_owner = self._quotas.of(account.owner).get(PER_MINUTE, tokens)
        self._owner(account.owner).use(tokens, of_owner, now)

    def headers(self, account: Account, now: float) -> dict[str, str]:
        """Return what is left of the limit of which least is left, as clients of OpenAI's API read it."""
        found: list[tuple[float, float, float]] = []
        for spent, limits in (
            (self.key(account.key_id), self._of_keys.get(account.key_id, {})),
            (self._owner(account.owner), self._quotas.of(account.owner)),
        ):
            if (limit := limits.get(PER_MINUTE)) is not None:
                missing = spent.missing_at(limit, now)
                found.append((limit - missing, limit, missing * MINUTE_SECONDS / max(limit, 1)))
            if (limit := limits.get(PER_DAY)) is not None:
                used = spent.today_at(now)
                found.append((limit - used, limit, DAY_SECONDS - now % DAY_SECONDS if used else 0.0))
        if not found:
            return {}
        left, limit, reset = min(found)
        return {
            "x-ratelimit-limit-tokens": f"{limit:.0f}",
            "x-ratelimit-remaining-tokens": f"{math.floor(max(0, left))}",
            "x-ratelimit-reset-tokens": f"{reset:.3f}s",
        }

    def take_unsaved(self) -> dict[tuple[int, Account], int]:
        """Return what was used since the last call, by the day."""
        unsaved, self._unsaved = self._unsaved, {}
        return unsaved

    def put_back(self, unsaved: Mapping[tuple[int, Account], int]) -> None:
        """Take back what could not be saved."""
        for used, tokens in unsaved.items():
            self._unsaved[used] = self._unsaved.get(used, 0) + tokens

    def learn(self, day: int, stored: Iterable[tuple[str, str, int]]) -> None:
        """Take over what all servers have saved of a day, by key and owner; what is not saved yet comes on top."""
        of_owners: dict[str, int] = {}
        rows = {Account(key_id, owner): tokens for key_id, owner, tokens in stored}
        for (used_on, account), tokens in self._unsaved.items():
            if used_on == day:
                rows[account] = rows.get(account, 0) + tokens
        for account, tokens in rows.items():
            spent = self.key(account.key_id)
            spent.day, spent.today = day, tokens
            of_owners[account.owner] = of_owners.get(account.owner, 0) + tokens
        for owner, tokens in of_owners.items():
            spent = self._owner(owner)
            spent.day, spent.today = day, tokens

    def key(self, key_id: str) -> Spent:
        """Return what a key has used."""
        return self._keys.setdefault(key_id, Spent())

    def used_by(self, owner: str, now: float) -> dict[str, float]:
        """Return what an owner has used of a minute and of a day, by the names of the limits."""
        spent, limit = self._owner(owner), self._quotas.of(owner).get(PER_MINUTE)
        minute = 0.0 if limit is None else spent.missing_at(limit, now)
        return {PER_MINUTE: math.ceil(minute), PER_DAY: spent.today_at(now)}

    def _owner(self, owner: str) -> Spent:
        return self._owners.setdefault(owner, Spent())
