"""A real server of root or of an ordinary user, for the tests of isolation."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import without_namespaces

import openlaunch
from openlaunch.testing import LocalClient, local

ORDINARY = 4242
"""A user and group that own nothing, and that no list of users has."""

USERS = ("root", "ordinary")
MODES = ("required", "auto")

_SETPRIV = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")


@contextmanager
def running_as(user: str, *, namespaces: bool = True, **variables) -> Iterator[tuple[LocalClient, Path]]:
    """A server of this user with these environment variables, and its home, in which its data directory is.

    Only root can start it. Without `namespaces`, the kernel gives none.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start servers of other users")
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        data = home / ".openlaunch"
        for folder in (home, data):
            folder.mkdir(mode=0o700)
        Path(place).chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            patch.delenv("UV_CACHE_DIR", raising=False)
            for name, value in variables.items():
                patch.setenv(name.upper(), str(value))
            if user == "ordinary":
                for folder in (data, home):
                    os.chown(folder, ORDINARY, ORDINARY)
            if user == "ordinary" or not namespaces:
                patch.setattr(sys, "executable", str(_python_of(user, Path(place), namespaces)))
            client = local(data, max_retries=0)
        with client:
            yield client, home


def _python_of(user: str, place: Path, namespaces: bool) -> Path:
    """A program that becomes this user and then Python."""
    python = [sys.executable] if user == "root" else _reachable_python()
    words = [*(() if user == "root" else _SETPRIV), *python]
    if not namespaces:
        alone = place / "without_namespaces.py"
        alone.write_text(Path(without_namespaces.__file__).read_text())
        words += [str(alone), *python]
    program = place / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    return program


def _reachable_python() -> list[str]:
    """The Python of the tests, or where the user can't reach it another one that uses what it has installed."""
    code = "import sys; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))"
    version = list(map(str, sys.version_info[:2]))
    folders = [
        str(Path(openlaunch.__file__).parents[1]),
        *(path for path in sys.path if "site-packages" in path),
    ]
    for python in (sys.executable, f"/usr/bin/python{'.'.join(version)}", "/usr/bin/python3"):
        started = subprocess.run(
            [*_SETPRIV, "env", python, "-c", code, *version], capture_output=True, check=False
        )
        if started.returncode == 0:
            return ["env", f"PYTHONPATH={os.pathsep.join(folders)}", python]
    pytest.skip(f"an ordinary user can reach no Python {'.'.join(version)} on this machine")
