"""The progress bar of batch jobs."""

import io
import sys

import pytest

from openlaunch.client.progress import InputsProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("show", [None, True])
def test_a_bar_on_a_terminal_counts_the_inputs(monkeypatch, show):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with InputsProgress("batch job 7", show) as progress:
        progress.show(None, None)
        progress.show(3, 7)
    assert "batch job 7" in sys.stderr.getvalue()
    assert "3/10" in sys.stderr.getvalue()


@pytest.mark.parametrize(("stream", "show"), [(io.StringIO, None), (Terminal, False)])
def test_elsewhere_nothing_is_written(monkeypatch, stream, show):
    monkeypatch.setattr(sys, "stderr", stream())
    with InputsProgress("batch job 7", show) as progress:
        progress.show(3, 7)
    assert sys.stderr.getvalue() == ""
