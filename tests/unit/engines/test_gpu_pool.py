"""The machine's GPUs: each is held by one worker at a time, or by several that share it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.engines.gpu_fit import is_of_kind
from openlaunch.engines.gpus import GpuPool


def test_hands_out_the_lowest_first_and_takes_them_back():
    pool = GpuPool((2, 0, 1))
    assert pool.take("a", 2) == (0, 1)
    assert pool.take("b", 1) == (2,)
    assert pool.free == 0
    pool.give_back("a")
    assert pool.take("c", 1) == (0,)


def test_gives_all_or_nothing():
    pool = GpuPool((0, 1))
    assert pool.take("a", 3) is None
    assert pool.free == 2


def test_a_worker_without_gpus_takes_none():
    pool = GpuPool(())
    assert pool.take("a", 0) == ()
    pool.give_back("a")
    assert pool.free == 0


def test_giving_back_twice_or_without_having_changes_nothing():
    pool = GpuPool((0,))
    pool.take("a", 1)
    pool.give_back("a")
    pool.give_back("a")
    pool.give_back("nobody")
    assert pool.free == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_no_gpu_is_held_twice_and_none_is_lost(steps):
    pool, held = GpuPool(tuple(range(4))), {}
    for takes, number, count in steps:
        worker = f"w{number}"
        if takes and worker not in held:
            if (taken := pool.take(worker, count)) is not None:
                held[worker] = taken
        elif not takes:
            pool.give_back(worker)
            held.pop(worker, None)
        in_use = [index for taken in held.values() for index in taken]
        assert len(set(in_use)) == len(in_use)
        assert pool.free == 4 - len(in_use)


def test_workers_share_a_gpu_and_leave_others_whole():
    pool = GpuPool((0, 1))
    assert [pool.take(f"w{n}", 0.25) for n in range(4)] == [(0,)] * 4
    assert (pool.free, pool.parts) == (1, ())
    assert pool.take("w4", 0.5) == (1,)
    assert (pool.free, pool.parts) == (0, (0.5,))
    assert pool.take("all", 1) is None
    pool.give_back("w0")
    assert pool.take("w5", 0.25) == (0,)
    assert pool.take("w6", 0.51) is None


def test_three_thirds_fit_and_not_a_fourth():
    pool = GpuPool((0,))
    assert [pool.take(f"w{n}", 0.33) for n in range(4)] == [(0,)] * 3 + [None]


def test_gpus_are_of_the_kind_that_is_asked_for():
    pool = GpuPool((0, 1, 2), ("Tesla T4", "NVIDIA H100 80GB HBM3", "NVIDIA A10G"))
    assert pool.take("a", 1, "nvidia-hopper-h100") == (1,)
    assert pool.take("b", 0.5, "nvidia-ampere-a10") == (2,)
    assert pool.take("c", 1, "nvidia-ampere-a100") is None
    assert pool.take("d", 1, "nvidia-hopper-h100") is None
    assert pool.take("e", 1) == (0,)


@pytest.mark.parametrize(
    ("name", "kind", "fits"),
    [
        ("NVIDIA A100-SXM4-40GB", "nvidia-ampere-a100", True),
        ("NVIDIA A100-SXM4-40GB", "nvidia-ampere-a10", False),
        ("NVIDIA H100 80GB HBM3 MIG 1g.20gb", "nvidia-hopper-h100-1g20gb", True),
        ("NVIDIA H100 80GB HBM3", "nvidia-hopper-h100-1g20gb", False),
        ("NVIDIA H100 80GB HBM3", "", True),
        ("", "nvidia-tesla-t4", True),
    ],
)
def test_a_type_is_found_in_the_drivers_name(name, kind, fits):
    assert is_of_kind(name, kind) is fits


SHARES = st.sampled_from([0, 0.01, 0.25, 0.33, 0.5, 0.99, 1, 2])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), SHARES), max_size=60))
def test_no_gpu_is_given_more_than_once_over(steps):
    pool, held = GpuPool((0, 1, 2)), {}
    for takes, number, share in steps:
        worker = f"w{number}"
        if takes and worker not in held:
            if (taken := pool.take(worker, share)) is not None:
                held[worker] = (share, taken)
        elif not takes:
            pool.give_back(worker)
            held.pop(worker, None)
        used = [sum(min(share, 1) for share, taken in held.values() if index in taken) for index in range(3)]
        assert all(each <= 1 + 1e-9 for each in used)
        assert pool.free == used.count(0)
        assert sum(pool.parts) == pytest.approx(sum(1 - each for each in used if 0 < each < 1 - 1e-9))
