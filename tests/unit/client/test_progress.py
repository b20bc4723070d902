"""The progress bar of batch jobs, and the line of a deployment."""

import io
import sys

import pytest

from openlaunch.client.models import ModelEndpoint
from openlaunch.client.progress import InputsProgress, StatusLine


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


@pytest.mark.parametrize("show", [None, True])
def test_without_a_stderr_nothing_is_written(monkeypatch, show):
    monkeypatch.setattr(sys, "stderr", None)
    with InputsProgress("batch job 7", show) as progress:
        progress.show(3, 7)
    with StatusLine(show) as line:
        line.show(endpoint("UPDATE_PENDING"))


def endpoint(status, reason=None):
    return ModelEndpoint(name="mine", status=status, status_reason=reason)


def test_a_line_is_written_over_and_ended(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "50")
    with StatusLine(None) as line:
        line.show(endpoint("UPDATE_IN_PROGRESS", "downloading\n" + 90 * "x"))
        line.show(endpoint("READY"))
    long = ("mine is UPDATE_IN_PROGRESS: downloading " + 90 * "x")[:49]
    assert sys.stderr.getvalue() == f"\r{long}\r{'mine is READY':<49}\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_is_said_elsewhere_or_of_what_is_ready(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    with StatusLine(None) as line:
        line.show(endpoint("READY" if stream is Terminal else "UPDATE_PENDING"))
    assert sys.stderr.getvalue() == ""


def test_a_notebook_gets_the_line(monkeypatch):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", stream())
    with StatusLine(None) as line:
        line.show(endpoint("UPDATE_PENDING"))
    assert sys.stderr.getvalue() == "\rmine is UPDATE_PENDING\n"
