"""What endpoints have of the GPUs: each says it when it is looked at, and hears what it has to give up."""

from collections.abc import Callable
from dataclasses import replace

from openlaunch.controller.plan import ALIVE
from openlaunch.controller.situation import Phase, Policy, Situation
from openlaunch.controller.swap import Share, SwapRule, Swaps, decide, whose
from openlaunch.wire.endpoints import EndpointStatus


class GpuShares:
    """The shares of all endpoints that ask for GPUs."""

    def __init__(self, rule: SwapRule) -> None:
        self._rule = rule
        self._shares: dict[str, Share] = {}
        self._wake: dict[str, Callable[[], None]] = {}
        self._served: dict[str, float] = {}
        """When each owner last got GPUs, also for an endpoint that is gone since."""

    def report(
        self, endpoint_id: str, share: Share, now: float, wake: Callable[[], None], *, waits: bool
    ) -> float | None:
        """Note how an endpoint stands; `wake` has it looked at, and is called when it has something to give.

        Returns the seconds for which it has waited for GPUs, where it has got them since the last report.
        """
        known = self._shares.get(endpoint_id)
        since = (now if known is None or known.waits_since is None else known.waits_since) if waits else None
        used_at = now if share.is_busy or known is None else known.used_at
        if share.workers > (0 if known is None else known.workers):
            self._served[share.owner] = now
        served_at = self._served.get(share.owner, 0.0)
        self._shares[endpoint_id] = replace(share, used_at=used_at, waits_since=since, served_at=served_at)
        self._wake[endpoint_id] = wake
        if known is not None and known.leaving > share.leaving:  # what it has given up can be had now
            for other, each in self._shares.items():
                if each.waits_since is not None:
                    self._wake[other]()
        if known is None or known.waits_since is None or waits or share.workers <= known.workers:
            return None
        return now - known.waits_since

    def forget(self, endpoint_id: str) -> None:
        self._shares.pop(endpoint_id, None)
        self._wake.pop(endpoint_id, None)

    def swaps(self, free: int, now: float) -> Swaps:
        """Return what is to be done."""
        return decide(self._shares, free, now, self._rule)

    def wake_givers(self, swaps: Swaps, but: str) -> None:
        """Have those looked at that have something to give."""
        for endpoint_id in swaps.gives:
            if endpoint_id != but:
                self._wake[endpoint_id]()

    def whose(self, endpoint_id: str, now: float) -> str:
        """Say whose GPU an endpoint waits for."""
        return whose(self._shares, endpoint_id, now, self._rule)


def share_of(s: Situation, *, is_busy: bool) -> Share:
    """Return how an endpoint stands. While it is rolled out, or has a canary, it has nothing to give."""
    spec, ready = s.endpoint.spec, s.select(Phase.READY, newest=True)
    is_settled = s.endpoint.status is EndpointStatus.READY and s.endpoint.live_canary is None
    return Share(
        name=s.endpoint.name,
        owner=s.endpoint.owner,
        gpus=int(spec.gpus),
        workers=s.count(*ALIVE),
        can_give=max(0, len(ready) - spec.min_workers) if is_settled else 0,
        leaving=s.count(Phase.DRAINING, Phase.STOPPING),
        is_busy=is_busy,
        is_replacing=_is_replacing(s),
        ready_at=max((worker.since for worker in ready), default=0.0),
    )


def lacks_workers(s: Situation, policy: Policy) -> bool:
    """Return whether further workers of the newest generation are wanted, and could be started."""
    there = s.count(*ALIVE, newest=True) if _is_replacing(s) else s.count(*ALIVE)
    return s.target > there and s.problem is None and s.may_start(s.endpoint.generation, policy)


def is_held_up(s: Situation, free: int) -> bool:
    """Return whether a worker could have its GPUs and has no room otherwise, so that none are kept for it."""
    return s.no_room is not None and free >= s.endpoint.spec.gpus


def _is_replacing(s: Situation) -> bool:
    return s.count(*ALIVE, Phase.DRAINING, Phase.STOPPING, newest=False) > 0
