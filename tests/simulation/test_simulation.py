"""Slot tokens, leases and epochs in whole clusters, of which each seed makes up another, with other faults."""

import os

import pytest
from simulate import first_broken, search

SEEDS = int(os.environ.get("OPENLAUNCH_SIMULATION_SEEDS", "2000"))
QUICK = 2_000


@pytest.mark.parametrize("start", range(0, QUICK, 250))
def test_every_rule_holds_whatever_fails(start):
    assert first_broken(range(start, start + 250)) is None, (
        "replay it: python tests/simulation/simulate.py SEED"
    )


@pytest.mark.skipif(SEEDS <= QUICK, reason="make chaos sets OPENLAUNCH_SIMULATION_SEEDS")
@pytest.mark.timeout(0)
def test_every_rule_holds_for_many_seeds():
    assert search(QUICK, SEEDS, report=print) == []
