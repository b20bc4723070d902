import pytest

from openlaunch.engines.gpus import select_gpus, visible_gpus

UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [
        ("0,2", (0, 2)),
        ("2, 0", (2, 0)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1,9,0", (1,)),
        ("1,1", (1,)),
        ("GPU-bb", (2,)),
        ("GPU-bb33,GPU-aa1", (2, 0)),
        ("GPU-aa", ()),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(limit: str, chosen: tuple[int, ...]) -> None:
    assert select_gpus(limit, UUIDS) == chosen


def test_no_gpu_is_visible_when_the_server_sees_none() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()
