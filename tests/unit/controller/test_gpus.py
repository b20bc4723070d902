"""Whether an endpoint's workers can have the GPUs that they ask for, in words."""

import pytest
from controller_simulation import make_spec

from openlaunch.controller.gpus import Gpus, gpu_problem
from openlaunch.engines.documents import Capacity
from openlaunch.engines.gpu_fit import room_for

TWO = Capacity(8, 2**33, gpus=2, free_gpus=2)
NAMED = Capacity(8, 2**33, 2, 2, gpu_names=("Tesla T4", "Tesla T4"))


@pytest.mark.parametrize(
    ("asked", "capacity", "said"),
    [
        ({"gpus": 3}, TWO, "asks for 3 GPUs per worker, this machine has 2"),
        ({"gpus": 1}, Capacity(8, 2**33, 0, 0), "asks for 1 GPU per worker, this machine has 0"),
        ({"gpus": 0.5}, Capacity(8, 2**33, 0, 0), "asks for 0.5 GPUs per worker, this machine has 0"),
        ({"gpus": 0.6, "min_workers": 3}, TWO, "asks for 0.6 GPUs per worker and at least 3 workers"),
        (
            {"gpus": 1, "gpu_type": "nvidia-hopper-h100"},
            NAMED,
            "asks for GPUs of the type nvidia-hopper-h100, this machine has 2 of another: Tesla T4",
        ),
        ({"gpus": 0.5, "min_workers": 4}, TWO, None),
        ({"gpus": 0.25, "gpu_type": "nvidia-tesla-t4"}, NAMED, None),
        ({"gpus": 1, "gpu_type": "nvidia-hopper-h100"}, TWO, None),
        ({"gpus": 0, "gpu_type": "nvidia-hopper-h100"}, NAMED, None),
    ],
)
def test_what_can_never_be_had_is_said(asked, capacity, said):
    problem = gpu_problem(make_spec(**{"max_workers": 9, **asked}), capacity)
    assert problem is None if said is None else problem.startswith(said)


def test_what_a_worker_waits_for_names_what_is_left():
    capacity = Capacity(8, 2**33, 2, 0, gpu_parts=(0.25, 0.5))
    waits = Gpus.of(make_spec(gpus=0.75), capacity).waits_for
    assert waits == "a worker waits for 0.75 GPU: 0 of 2 free, and of others 0.25, 0.5"
    assert Gpus.of(make_spec(gpus=0.5), capacity).waits_for is None


@pytest.mark.parametrize(
    ("gpus", "free", "parts", "workers"),
    [(1, 3, (), 3), (2, 3, (), 1), (0.25, 1, (0.5,), 6), (0.33, 1, (), 3), (0.4, 0, (0.3, 0.5), 1)],
)
def test_as_many_workers_share_a_gpu_as_fit(gpus, free, parts, workers):
    assert room_for(gpus, free, parts) == workers
