"""What the commands print on a terminal of 80 columns."""

import fcntl
import os
import pty
import struct
import sys
import termios
from concurrent.futures import ThreadPoolExecutor

import pytest

from openlaunch import EndpointRequest
from openlaunch.cli.app import run
from openlaunch.testing import local

LONG = "a-name-that-is-as-long-as-a-name-of-an-endpoint-may-be-here-063"
SMALL = {"cpus": 0.1, "memory": "64Mi"}
LISTS = [
    ("endpoints", "list"),
    ("endpoints", "events", LONG),
    ("tasks", "list"),
    ("tasks", "deliveries", "TASK"),
    ("bundles", "list"),
    ("batch-jobs", "list"),
    ("image-jobs", "list"),
    ("triggers", "list"),
    ("keys", "list"),
    ("audit", "list"),
    ("storage",),
    ("quotas", "list"),
    ("docs",),
    ("endpoints", "list", "--all"),
    ("tasks", "list", "--all"),
    ("bundles", "list", "--all"),
    ("batch-jobs", "list", "--all"),
    ("triggers", "list", "--all"),
    ("whoami",),
    ("endpoints", "get", LONG),
    ("tasks", "show", "TASK"),
]


def fails(word):
    raise ValueError("a reason of some length, as " + "many models give one when they fail, " * 3)


@pytest.fixture(scope="module")
def place():
    """A server with long names in it, and the id of a task that failed."""
    with local() as client:
        endpoint = client.deploy(fails, name=LONG, endpoint_type="async", **SMALL)
        request = {
            "args": {"word": "x"},
            "callback_url": "http://127.0.0.1:9/a/path/of/some/length/for/callbacks",
        }
        future = endpoint.predict(EndpointRequest(**request))
        future.get(60)
        job = client.batch_async_request(model_bundle=LONG, inputs=[{"word": "a"}], **SMALL)
        client.wait_for_batch_job(job["job_id"], timeout=60)
        client.create_api_key("an-owner-with-a-name-as-long-as-owners-may-have-on-any-server-64", "predict")
        made = client.create_docker_image_batch_job_bundle(
            name=LONG, image_repository="busybox", image_tag="1", command=[], env={}
        )
        client.create_trigger(
            name=LONG, cron_schedule="0 0 1 1 *", bundle_id=made["docker_image_batch_job_bundle_id"]
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENLAUNCH_URL", client.server.url)
            patch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)
            yield future.async_task_id


def on_terminal(arguments, monkeypatch, stream="stdout", columns=80):
    """The lines that the command prints on a terminal, and its exit code."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(parent, "rb", buffering=0) as screen, ThreadPoolExecutor() as reader:
        shown = reader.submit(read_to_end, screen)
        with os.fdopen(child, "w") as terminal, monkeypatch.context() as patch:
            patch.setattr(sys, stream, terminal)
            code = run(arguments)
        return shown.result().decode().replace("\r\n", "\n").splitlines(), code


def read_to_end(screen):
    shown = b""
    while True:
        try:
            piece = screen.read(65536)
        except OSError:  # Linux's way to say that the other end is closed
            return shown
        if not piece:
            return shown
        shown += piece


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_it_fits_80_columns_and_cuts_no_word(place, monkeypatch, capsys, arguments):
    chosen = [place if each == "TASK" else each for each in arguments]
    lines, code = on_terminal(chosen, monkeypatch)
    assert code == 0, capsys.readouterr().err
    wide = [line for line in lines if len(line) > 80 and len(line.split()) > 1]
    assert not wide
    assert run(chosen) == 0
    piped = capsys.readouterr().out
    assert {word for line in lines for word in line.split()} <= set(piped.split()), "a word was cut"


def test_an_error_and_what_to_do_are_wrapped_between_words(place, monkeypatch):
    arguments = ("endpoints", "get", "no-such-endpoint-" * 3, "--server", "http://127.0.0.1:1")
    lines, code = on_terminal(arguments, monkeypatch, stream="stderr")
    assert code == 5
    assert lines[0].startswith("error: no server can be reached at http://127.0.0.1:1 ")
    assert len(lines) > 1
    assert not [line for line in lines if len(line) > 80]
