"""Whose GPUs go to whom, where there are fewer than endpoints ask for. Pure: the time is given.

An endpoint that has demand and finds no free GPU waits. Owners take turns: whose endpoints have fewest GPUs is first,
then who has waited longest since its owner last got some. What is free is kept for it. Endpoints give up workers
above their `min_workers`: those that nothing asks for, the least recently used first; and once somebody without a
worker has waited for `max_wait`, those that are busy, too. A worker leaves by a drain, so that what runs is finished,
and not before `min_stay` has passed since it was ready.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SwapRule:
    """Seconds for which a worker keeps its GPUs at least, and after which a busy one gives them up to others."""

    min_stay: float = 30.0
    max_wait: float = 120.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one endpoint has of the GPUs, and whether it waits for more.

    `gpus` are those of one worker. `can_give` is how many workers could leave, `leaving` how many are ending.
    `ready_at` is when the youngest ready worker was ready, `used_at` when the endpoint last had anything to do.
    `waits_since` is None where it waits for nothing. One that `is_replacing` older workers is first: the GPUs are
    its own.
    """

    name: str
    owner: str
    gpus: int
    workers: int = 0
    can_give: int = 0
    leaving: int = 0
    is_busy: bool = False
    is_replacing: bool = False
    used_at: float = 0.0
    ready_at: float = 0.0
    waits_since: float | None = None
    served_at: float = 0.0
    """When an endpoint of its owner last got GPUs."""

    def stays_for(self, now: float, rule: SwapRule) -> float:
        """Return for how many seconds it keeps what it has in any case."""
        return max(0.0, self.ready_at + rule.min_stay - now)


@dataclass(frozen=True, slots=True)
class Swaps:
    """How many workers each endpoint has to give up, and how many free GPUs are kept for which endpoint."""

    gives: Mapping[str, int]
    kept: Mapping[str, int]
    """In the order of who is first."""

    def free_for(self, endpoint_id: str, free: int) -> int:
        """Return how many of the free GPUs an endpoint may take."""
        before = 0
        for each, kept in self.kept.items():
            if each == endpoint_id:
                break
            before += kept
        return max(0, free - before)


def decide(shares: Mapping[str, Share], free: int, now: float, rule: SwapRule) -> Swaps:
    """Return who gives up workers, and for whom GPUs are kept."""
    coming = free + sum(share.leaving * share.gpus for share in shares.values())
    gives: dict[str, int] = {}
    kept: dict[str, int] = {}
    for endpoint_id in _waiting(shares):
        needs = shares[endpoint_id].gpus
        others = [other for other in shares if other != endpoint_id]
        most = coming + sum(
            (shares[each].can_give - gives.get(each, 0)) * shares[each].gpus for each in others
        )
        if most < needs:  # no swap helps, so that nothing is kept for it
            continue
        for each in _givers(shares, endpoint_id, now, rule):
            while coming < needs and gives.get(each, 0) < shares[each].can_give:
                gives[each] = gives.get(each, 0) + 1
                coming += shares[each].gpus
        kept[endpoint_id] = needs
        coming = max(0, coming - needs)
    return Swaps({each: count for each, count in gives.items() if count}, kept)


def _waiting(shares: Mapping[str, Share]) -> list[str]:
    """Return the endpoints that wait, in their order.

    Owners take turns, so that many endpoints of one leave room for those of others.
    """
    since = {each: share.waits_since for each, share in shares.items() if share.waits_since is not None}
    turns, served = Counter[str](), dict[str, float]()
    for share in shares.values():
        turns[share.owner] += (share.workers + share.leaving) * share.gpus
        served[share.owner] = max(served.get(share.owner, 0.0), share.served_at)
    order: dict[str, tuple[object, ...]] = {}
    for each in sorted(since, key=lambda each: (since[each], each)):
        share = shares[each]
        waited = max(since[each], served[share.owner])
        order[each] = (not share.is_replacing, turns[share.owner], waited, since[each], each)
        turns[share.owner] += share.gpus
    return sorted(since, key=lambda each: order[each])


def _givers(shares: Mapping[str, Share], waiting: str, now: float, rule: SwapRule) -> Iterator[str]:
    """Yield those that may give up workers now, in the order in which they do."""
    waits = shares[waiting]
    waited = 0.0 if waits.waits_since is None else now - waits.waits_since
    for each in _candidates(shares, waiting):
        share = shares[each]
        if share.is_busy and (waited < rule.max_wait or waits.workers):
            continue
        if not share.stays_for(now, rule):
            yield each


def _candidates(shares: Mapping[str, Share], waiting: str) -> list[str]:
    found = [each for each, share in shares.items() if each != waiting and share.can_give]
    return sorted(found, key=lambda each: (shares[each].is_busy, shares[each].used_at, each))


def whose(shares: Mapping[str, Share], endpoint_id: str, now: float, rule: SwapRule) -> str:
    """Say in words whose GPU an endpoint waits for, and when it comes."""
    waits = shares[endpoint_id]
    waiting = _waiting(shares)
    ahead = waiting.index(endpoint_id) if endpoint_id in waiting else 0
    before = f"; {ahead} other{'s are' if ahead > 1 else ' is'} before it" if ahead else ""
    for each, share in shares.items():
        if share.leaving and each != endpoint_id:
            return f"{_called(share, waits)} finishes what it runs, and gives up its GPUs{before}"
    for each in _candidates(shares, endpoint_id):
        share = shares[each]
        seconds = share.stays_for(now, rule)
        if not share.is_busy:
            when = f"in {seconds:.0f} s" if seconds else "now"
            return f"{_called(share, waits)} is idle and gives up its GPUs {when}{before}"
        if waits.workers:
            continue
        waited = now - (now if waits.waits_since is None else waits.waits_since)
        seconds = max(seconds, rule.max_wait - waited)
        return f"{_called(share, waits)} is busy and gives up its GPUs once it is idle, or in {seconds:.0f} s{before}"
    keeps = [_called(share, waits) for share in shares.values() if share.workers and share is not waits]
    if not keeps:
        return f"they are not held by endpoints{before}"
    names = ", ".join(keeps[:5])
    return f"they are kept, by min_workers or because a worker starts, by {names}{before}"


def _called(share: Share, to: Share) -> str:
    """Return what one endpoint is called in a message for another's owner."""
    return f"the endpoint {share.name!r}" if share.owner == to.owner else "an endpoint of another owner"
