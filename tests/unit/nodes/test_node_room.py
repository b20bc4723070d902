"""What fits a node beside the workers that it has."""

import pytest

from openlaunch.engines.documents import Capacity, Resources
from openlaunch.nodes.node import Node


def node(*held: float, gpus: int = 2, names: tuple[str, ...] = ()) -> Node:
    made = Node("host", 1)
    made.has = Capacity(8, 2**33, gpus, gpus, gpu_names=names)
    made.link = object()  # it is connected
    made.workers = {f"w{n}": Resources(gpus=each) for n, each in enumerate(held)}
    return made


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [
        ((), 2, True),
        ((0.5,), 2, False),
        ((0.5,), 1, True),
        ((0.6, 0.6), 0.6, False),
        ((0.6, 0.6), 0.4, True),
        ((0.25,) * 7, 0.25, True),
        ((0.25,) * 8, 0.25, False),
        ((1, 0.33, 0.33), 0.33, True),
    ],
)
def test_parts_of_gpus_fit_as_long_as_one_gpu_has_room(held, asked, fits):
    assert node(*held).fits(Resources(gpus=asked)) is fits


def test_a_node_has_to_have_gpus_of_the_type():
    named = node(names=("Tesla T4", "Tesla T4"))
    assert named.fits(Resources(gpus=0.5, gpu_type="nvidia-tesla-t4"))
    assert not named.fits(Resources(gpus=0.5, gpu_type="nvidia-hopper-h100"))
