"""The machine's GPUs: each is held by one worker at a time."""

from controller_simulation import make_spec
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.controller.gpu_pool import GpuPool


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


def test_what_the_machine_can_never_give_is_a_problem():
    pool = GpuPool((0, 1))
    assert pool.problem(make_spec(gpus=2)) is None
    assert pool.problem(make_spec(gpus=3)) == "asks for 3 GPUs per worker, this machine has 2"
    assert pool.problem(make_spec(gpus=1, min_workers=3)) == (
        "asks for 1 GPUs per worker and at least 3 workers, this machine has 2 GPUs"
    )
    assert pool.problem(make_spec(gpus=0, min_workers=3)) is None


def test_what_a_worker_waits_for():
    pool = GpuPool((0, 1))
    pool.take("a", 1)
    assert pool.waits_for(make_spec(gpus=1)) is None
    assert pool.waits_for(make_spec(gpus=2)) == "a worker waits for 2 GPUs: 1 of 2 free"
    pool.take("b", 1)
    assert pool.waits_for(make_spec(gpus=1)) == "a worker waits for 1 GPU: 0 of 2 free"
