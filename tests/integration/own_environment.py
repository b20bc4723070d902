"""Environments of their own for packages that the tests' environment must not have."""

import fcntl
import subprocess
import sys
from pathlib import Path

UV = (sys.executable, "-m", "uv")


def install(folder, *asked, python=sys.executable):
    """Make an environment in this folder, with what is asked of `pip install`; return the folder of its commands."""
    subprocess.run([*UV, "venv", "--quiet", "--clear", "--python", python, folder], check=True)
    subprocess.run([*UV, "pip", "install", "--quiet", "--python", folder, *asked], check=True)
    return folder / "bin"


def python_of(name, packages):
    """Return the interpreter of an environment that is made when first needed, and kept beside the tests' own."""
    folder = Path(sys.prefix) / name
    made = folder / ".installed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            install(folder, "--compile-bytecode", *packages)
            made.touch()
    return str(folder / "bin" / "python")
