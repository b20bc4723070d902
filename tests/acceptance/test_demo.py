"""`make demo`: what it shows, it checks itself, and says by its exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_shows_everything_and_leaves_nothing_behind():
    command = [sys.executable, "-W", "error::ResourceWarning", str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Done: " in done.stdout
    assert "accuracy" in done.stdout


@pytest.mark.slow
def test_the_demo_of_the_page_says_where_to_look_and_ends_by_ctrl_c():
    command = [sys.executable, str(DEMO.with_name("demo_page.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "/#link=" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("ended\n")
    assert process.returncode == 0
