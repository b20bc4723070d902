"""The machine's GPUs: each is held by one worker at a time."""

from hypothesis import given
from hypothesis import strategies as st

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
