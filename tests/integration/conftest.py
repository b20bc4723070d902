"""Fixtures of the tests with real processes."""

from pathlib import Path

import pytest
import uvloop
import worker_driver

LOOPS = {"uvloop": {"OPENLAUNCH_WORKER_UVLOOP": str(Path(uvloop.__file__).parent.parent)}, "asyncio": {}}


@pytest.fixture(params=LOOPS)
def each_loop(request, monkeypatch):
    """Workers use this event loop."""
    monkeypatch.setattr(worker_driver, "LOOP_ENV", LOOPS[request.param])
