"""The end of the command's process."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
PROGRAM = """
import atexit, os, sys, threading

class Last:
    def __del__(self, write=os.write):
        write(1, b"taken apart")

def last():
    threading.main_thread().join()
    print("the thread has ended")

last_of_all = Last()
atexit.register(print, "atexit has run")
threading.Thread(target=last).start()
sys.argv = ["openlaunch", *sys.argv[1:]]
from openlaunch.cli import main
try:
    main()
finally:
    print("main has ended")
"""


def ended(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_process_ends_with_all_done_and_its_interpreter_whole():
    """Threads of libraries that Python does not know abort a process whose interpreter is taken apart."""
    done = ended("version")
    assert done.stdout.splitlines()[1:] == ["main has ended", "the thread has ended", "atexit has run"]
    assert (done.returncode, done.stderr) == (0, "")


def test_it_keeps_the_exit_code():
    done = ended("predict")
    assert done.stdout.splitlines() == ["main has ended", "the thread has ended", "atexit has run"]
    assert done.returncode == 2


def test_output_that_nobody_takes_leaves_no_traceback():
    command = [sys.executable, "-m", "openlaunch.cli", "version"]
    shut = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, text=True, timeout=60
    )
    assert (shut.returncode, shut.stderr) == (0, "")


@pytest.mark.parametrize("shut", ["2>&-", "<&- >&- 2>&-"])
def test_without_a_stderr_the_exit_code_is_the_same(shut):
    command = [sys.executable, "-m", "openlaunch.cli", "no-such-command"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {shut}', "sh", *command], timeout=60)
    assert done.returncode == 2


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_leaves_no_traceback():
    command = [sys.executable, "-m", "openlaunch.cli", "version"]
    with FULL.open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")
