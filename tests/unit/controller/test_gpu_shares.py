"""How an endpoint stands, where GPUs are scarce: what it has to give, and whether it waits."""

from dataclasses import replace

import situations
from controller_simulation import make_record, make_spec
from situations import NOW

from openlaunch.controller.gpu_shares import GpuShares, is_held_up, lacks_workers, share_of
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.situation import Phase, Policy
from openlaunch.controller.swap import Share, SwapRule
from openlaunch.wire.endpoints import EndpointStatus

SPEC = make_spec(gpus=1, min_workers=1, max_workers=3)
READY = replace(
    make_record(SPEC), status=EndpointStatus.READY, ready_generation=1, ready_bundle_id="good", generation=2
)


def look(*workers, record=READY, **more):
    return situations.look(record, *workers, limit=9, gpus=Gpus(9), **more)


def worker(name, generation=2, age=10.0):
    return situations.worker(name, generation, Phase.READY, age)


def test_what_is_above_the_minimum_can_be_given_up_except_during_a_roll_out():
    share = share_of(look(worker("a"), worker("b", age=5.0), desired=2), is_busy=True)
    assert (share.workers, share.can_give, share.ready_at, share.is_busy) == (2, 1, NOW - 5.0, True)
    rolling = replace(READY, status=EndpointStatus.UPDATE_IN_PROGRESS)
    assert share_of(look(worker("a"), worker("b"), record=rolling), is_busy=False).can_give == 0


def test_workers_of_an_older_generation_are_replaced_and_do_not_count_as_there():
    assert not lacks_workers(look(worker("a")), Policy())
    older = look(worker("a", generation=1))
    assert share_of(older, is_busy=False).is_replacing
    assert lacks_workers(older, Policy())


def test_nothing_is_kept_for_a_worker_that_has_no_room_otherwise():
    waits = look(waits_since=NOW - 10)
    assert is_held_up(waits, free=1)
    assert not is_held_up(waits, free=0)
    assert not is_held_up(look(), free=1)


def test_those_who_give_and_those_who_wait_are_woken():
    shares, woken = GpuShares(SwapRule(0, 0)), []
    holds = Share("a", "me", 1, workers=1, can_give=1)
    shares.report("a", holds, NOW, lambda: woken.append("a"), waits=False)
    shares.report("b", Share("b", "me", 1), NOW, lambda: woken.append("b"), waits=True)
    shares.wake_givers(shares.swaps(0, NOW), but="b")
    assert woken == ["a"]
    leaving = replace(holds, workers=0, can_give=0, leaving=1)
    shares.report("a", leaving, NOW, lambda: None, waits=False)
    shares.report("a", replace(leaving, leaving=0), NOW, lambda: None, waits=False)
    assert woken == ["a", "b"]
    shares.forget("b")
    assert dict(shares.swaps(0, NOW).kept) == {}


def test_a_wait_for_gpus_ends_with_a_worker_and_is_told_once():
    shares = GpuShares(SwapRule(0, 0))

    def report(workers, now, *, waits):
        return shares.report("a", Share("a", "me", 1, workers=workers), now, lambda: None, waits=waits)

    assert report(0, NOW, waits=True) is None
    assert report(0, NOW + 2, waits=True) is None
    assert report(1, NOW + 5, waits=False) == 5
    assert report(1, NOW + 6, waits=False) is None
    assert report(1, NOW + 7, waits=True) is None
    assert report(1, NOW + 9, waits=False) is None  # what it wanted one for has gone


def test_many_endpoints_of_one_owner_leave_turns_to_others():
    """One GPU that goes from endpoint to endpoint; those of `many` have all waited for longer than the other one."""
    shares, served = GpuShares(SwapRule(0, 0)), []
    idle = {f"m{n}": Share(f"m{n}", "many", 1) for n in range(5)} | {"v": Share("v", "other", 1)}
    for now, (name, share) in enumerate(idle.items()):
        shares.report(name, share, now, lambda: None, waits=True)
    for now in range(10, 60, 10):
        swaps = shares.swaps(1, now)
        first = next(name for name in idle if swaps.free_for(name, 1))
        served.append(first)
        shares.report(first, replace(idle[first], workers=1, can_give=1), now, lambda: None, waits=False)
        shares.report(first, replace(idle[first], leaving=1), now + 1, lambda: None, waits=False)
        shares.report(first, idle.pop(first), now + 2, lambda: None, waits=False)
        for name, share in idle.items():
            shares.report(name, share, now + 3, lambda: None, waits=True)
    assert served == ["m0", "v", "m1", "m2", "m3"]
