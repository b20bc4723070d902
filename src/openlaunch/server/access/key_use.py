"""What keys have used of their limits: counted in memory, stored again and again, and shared between servers."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from openlaunch.errors import Unavailable
from openlaunch.server import clock
from openlaunch.server.access.limits import DAY_SECONDS, Limits, Meter
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.access.tokens import PER_DAY, PER_MINUTE, Account, TokenBudgets
from openlaunch.store import keys as key_store
from openlaunch.store import token_usage as token_store
from openlaunch.store.base import Store
from openlaunch.store.records import KeyRecord

log = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
"""Interval at which the use of keys with a quota is stored; a killed server loses at most this much of it."""


class KeyUse:
    """The requests of keys that have limits, and the tokens of all keys."""

    def __init__(self, store: Store, quotas: Quotas) -> None:
        self._store = store
        self.tokens = TokenBudgets(quotas)
        self.meters: dict[str, Meter] = {}
        """What counts the requests of each key that has limits on them."""
        self._saved: dict[str, tuple[int, int]] = {}
        """The stored use of each key, to which other servers may add."""
        self.moves = asyncio.Lock()
        """Held while use is stored, and from reading it until it is counted: else some would count twice."""
        self._saving: asyncio.Task[None] | None = None
        self._learns_until = 0.0
        """Until when tokens may be stored that other servers have said; their number here is not what is stored."""

    async def start(self) -> None:
        """Read what tokens were used today, and store from now on what is used."""
        day = int(clock.now() // DAY_SECONDS)
        self.tokens.learn(day, await self._store.read(lambda conn: token_store.of_day(conn, day)))
        self._saving = asyncio.create_task(self._save_again_and_again())

    async def stop(self) -> None:
        """Store what was used, for the last time."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])
            await self._save_requests()
            await self._save_tokens()

    def set_keys(self, records: Iterable[KeyRecord], stored: Mapping[str, tuple[int, int]]) -> None:
        """Count for these keys alone. `stored` is what each has used, by its id: the day, and the requests."""
        self.tokens.set_limits({r.id: limits for r in records if (limits := _token_limits(r))})
        self.meters = {r.id: meter for r in records if (meter := self._meter(r)) is not None}
        self._learn(stored)

    def _meter(self, record: KeyRecord) -> Meter | None:
        """Return a key's meter, which keeps its counts when the keys are read again."""
        limits = Limits(record.requests_per_second, record.burst, record.requests_per_day)
        if not limits:
            return None
        meter = self.meters.get(record.id) or Meter(limits)
        meter.limits = limits
        return meter

    async def _save_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save_requests()
            await self._save_tokens()

    async def _save_requests(self) -> None:
        async with self.moves:
            limited = {k: m for k, m in self.meters.items() if m.limits.requests_per_day is not None}
            unsaved = {key_id: self._unsaved(key_id, meter) for key_id, meter in limited.items()}
            made = {key_id: (limited[key_id].today[0], count) for key_id, count in unsaved.items() if count}
            if not made:
                return
            try:
                stored = await self._store.write(lambda conn: key_store.add_usage(conn, made))
            except Unavailable as error:
                log.warning("the use of keys could not be stored; retrying: %s", error)
                return
            for key_id, (day, count) in made.items():
                self._add_saved(key_id, day, count)
            self._learn(stored)

    async def _save_tokens(self) -> None:
        """Store the tokens that were used, and learn what keys have used at other servers."""
        used, day = self.tokens.take_unsaved(), int(clock.now() // DAY_SECONDS)
        rows = [(*account, used_on, tokens) for (used_on, account), tokens in used.items()]
        try:
            if rows:
                stored = await self._store.write(lambda conn: token_store.add(conn, day, rows))
            elif time.monotonic() < self._learns_until:
                stored = await self._store.read(lambda conn: token_store.of_day(conn, day))
            else:
                return
        except Unavailable as error:
            self.tokens.put_back(used)
            log.warning("the tokens that were used could not be stored; retrying: %s", error)
            return
        self.tokens.learn(day, stored)

    def take(self) -> tuple[dict[str, int], dict[Account, int]]:
        """Return the requests of limited keys, and the tokens of all, that were used here since the last call."""
        requests = {key_id: meter.unsaid for key_id, meter in self.meters.items() if meter.unsaid}
        for key_id in requests:
            self.meters[key_id].unsaid = 0
        return requests, self.tokens.take_unsaid()

    def used_elsewhere(
        self, requests: Iterable[tuple[str, int]], tokens: Iterable[tuple[str, str, int]]
    ) -> None:
        """Count requests, by key, and tokens, by key and owner, that another server has taken and stores."""
        for key_id, count in requests:
            if (meter := self.meters.get(key_id)) is not None:
                meter.add(count, time.time())
                self._add_saved(key_id, meter.today[0], count)
        for key_id, owner, count in tokens:
            self._learns_until = time.monotonic() + 2 * SAVE_SECONDS
            self.tokens.add(Account(key_id, owner), count, clock.now())

    def _add_saved(self, key_id: str, day: int, count: int) -> None:
        saved_day, saved = self._saved.get(key_id, (0, 0))
        self._saved[key_id] = day, count + (saved if saved_day == day else 0)

    def _unsaved(self, key_id: str, meter: Meter) -> int:
        """Count the requests of the meter's day that are not stored."""
        (day, count), saved = meter.today, self._saved.get(key_id, (0, 0))
        return count - saved[1] if saved[0] == day else count

    def _learn(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Count what other servers have added to the use of keys."""
        for key_id, (day, count) in stored.items():
            meter = self.meters.get(key_id)
            if meter is not None and day >= meter.today[0]:
                unsaved = self._unsaved(key_id, meter) if day == meter.today[0] else 0
                meter.learn(day, count + unsaved)
                self._saved[key_id] = day, count


def _token_limits(record: KeyRecord) -> dict[str, float]:
    limits = {PER_MINUTE: record.tokens_per_minute, PER_DAY: record.tokens_per_day}
    return {name: limit for name, limit in limits.items() if limit is not None}
