"""Exit codes and messages of failures."""

import subprocess
import sys

import pytest
import typer

from openlaunch import errors
from openlaunch.cli.exits import HELP, Exit, code_of, fitted, show, show_usage


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PredictionFailed("x"), 1),
        (errors.EndpointFailed("x"), 1),
        (errors.TaskCancelled("x"), 1),
        (errors.Conflict("x"), 1),
        (errors.ServerError("x"), 1),
        (errors.WorkerDied("x"), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.BundleError("x"), 2),
        (errors.BadRequest("x"), 2),
        (errors.Unprocessable("x"), 2),
        (errors.PayloadTooLarge("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Unauthorized("x"), 4),
        (errors.Forbidden("x"), 4),
        (errors.ConnectionFailed("x"), 5),
        (errors.StreamInterrupted("x"), 5),
        (errors.Unavailable("x"), 5),
        (errors.TooManyRequests("x"), 5),
        (errors.WaitTimeout("x"), 6),
        (errors.DeadlineExceeded("x"), 6),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert code_of(error) == code


def test_the_help_lists_every_exit_code():
    listed = [line.split()[0] for line in HELP.splitlines()[2:]]
    assert listed == [str(int(code)) for code in Exit]


def test_an_error_is_one_line_and_a_hint_where_there_is_one(capsys):
    show(errors.Forbidden("keys are for admins"))
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "error: keys are for admins")
    assert err.splitlines()[1].startswith("hint: `openlaunch whoami` shows the key and its role; ")


def test_a_note_on_an_error_is_a_hint(capsys):
    error = errors.ConfigurationError("no server was named")
    error.add_note("name one")
    show(error)
    assert capsys.readouterr().err == "error: no server was named\nhint: name one\n"


def test_a_fault_of_the_server_names_the_request(capsys):
    show(errors.ServerError("oh", request_id="req_1"))
    assert "req_1" in capsys.readouterr().err.splitlines()[-1]


def test_a_command_stays_on_one_line_so_that_it_can_be_copied():
    text = (
        "interrupted; the work continues, and this shows it: openlaunch endpoints get predict\n"
        "the work continues; look at it with `openlaunch endpoints get` or `openlaunch tasks get`"
    )
    assert fitted(text, 50).split("\n") == [
        "interrupted; the work continues, and this shows",
        "it: openlaunch endpoints get predict",
        "the work continues; look at it with",
        "`openlaunch endpoints get` or `openlaunch tasks get`",
    ]
    assert "openlaunch endpoints get predict" in fitted(text, 20).split("\n")


def test_a_choice_that_is_near_is_named(capsys):
    show_usage(typer.BadParameter("'FAILD' is not one of 'PENDING', 'FAILURE'.", param_hint="--status"))
    show_usage(typer.BadParameter("'x' is not one of 'PENDING', 'FAILURE'.", param_hint="--status"))
    near, _, far, _ = capsys.readouterr().err.splitlines()
    assert near.endswith("'FAILD' is not one of 'PENDING', 'FAILURE'; did you mean FAILURE?")
    assert far.endswith("'x' is not one of 'PENDING', 'FAILURE'.")


@pytest.mark.parametrize("page", ["versioning", "settings"])
def test_a_reader_that_ends_first_is_no_failure(page):
    """One page is short, so that all of it is printed at the end; of the other a part is printed before."""
    command = [sys.executable, "-m", "openlaunch.cli", "docs", page]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == Exit.PIPE_CLOSED
