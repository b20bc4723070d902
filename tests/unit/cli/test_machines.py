"""Nodes and GPUs as lines of `openlaunch top`."""

from datetime import UTC, datetime

import pytest

from openlaunch.cli.machines import Machines, machine_lines
from openlaunch.wire.nodes import GpuResponse, NodeResponse

GIB = 1024**3


def node(number, state="ready", name="a-machine-with-a-name-of-some-length"):
    return NodeResponse(
        address=f"10.0.0.{number}:7000",
        name=name,
        state=state,
        reason="",
        since=datetime.now(UTC),
        workers=number,
        cpus=64.0,
        memory=1000 * GIB,
        gpus=8,
        free_cpus=0.5,
        free_memory=int(999.9 * GIB),
        free_gpus=1,
    )


def gpu(index):
    return GpuResponse(index=index, utilization=1.0, memory_used=int(79.6 * GIB), memory=80 * GIB)


def shown(machines, most=24):
    return [each.plain for each in machine_lines(machines, 80, most)]


def test_what_is_away_is_the_first_node_and_all_of_it_fits_eighty_columns():
    lines = shown(Machines([node(1), node(2, "drained"), node(3, "away")], [gpu(each) for each in range(8)]))
    assert [line.split()[:1] for line in lines[:1]] == [["NODE"]]
    assert [next(a for a in ("away", "drained", "ready") if a in line) for line in lines[1:4]] == [
        "away",
        "drained",
        "ready",
    ]
    assert [line.count("GPU") for line in lines[4:]] == [2, 2, 2, 2]
    assert "GPU 7: 100%, 79.6 GiB of 80 GiB" in lines[-1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("most", "expected"), [(0, 0), (1, 1), (4, 4), (50, 21)])
def test_there_are_no_more_lines_than_there_is_room_for(most, expected):
    assert len(shown(Machines([node(each) for each in range(20)]), most)) == expected


def test_without_nodes_and_gpus_there_is_no_line():
    assert shown(Machines()) == []
