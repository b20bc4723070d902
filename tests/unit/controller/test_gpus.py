"""Whether an endpoint can have the GPUs that it asks for, in words."""

from controller_simulation import make_spec

from openlaunch.controller.gpus import Gpus, gpu_problem
from openlaunch.engines.base import Capacity


def test_what_the_machine_can_never_give_is_a_problem():
    assert gpu_problem(make_spec(gpus=2), 2) is None
    assert gpu_problem(make_spec(gpus=3), 2) == "asks for 3 GPUs per worker, this machine has 2"
    assert gpu_problem(make_spec(gpus=1, min_workers=3), 2) == (
        "asks for 1 GPUs per worker and at least 3 workers, this machine has 2 GPUs"
    )
    assert gpu_problem(make_spec(gpus=0, min_workers=3), 2) is None


def waits_for(gpus: int, free: int) -> str | None:
    return Gpus.of(make_spec(gpus=gpus), Capacity(1, 1, gpus=2, free_gpus=free)).waits_for


def test_what_a_worker_waits_for():
    assert waits_for(1, free=1) is None
    assert waits_for(2, free=1) == "a worker waits for 2 GPUs: 1 of 2 free"
    assert waits_for(1, free=0) == "a worker waits for 1 GPU: 0 of 2 free"
