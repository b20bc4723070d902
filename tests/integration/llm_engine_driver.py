"""The unmodified `scale-llm-engine` package, in an environment made when first needed."""

import fcntl
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(sys.prefix) / "llm-engine"
CALLER = Path(__file__).parents[1] / "data" / "llm_engine_caller.py"


def python():
    """Return the interpreter of the environment."""
    found, made = FOLDER / "bin" / "python", FOLDER / ".installed"
    with (Path(sys.prefix) / "llm-engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "--quiet", "--clear", FOLDER], check=True)
            install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", found)
            subprocess.run([*uv, *install, "scale-llm-engine"], check=True)
            made.touch()
    return str(found)


def environ_for(url, key):
    """Return the variables by which the package finds a server."""
    environ = {**os.environ, "LLM_ENGINE_BASE_PATH": f"{url}/", "SCALE_API_KEY": key}
    return {**environ, "LLM_ENGINE_DISABLE_VERSION_CHECK": "true"}


@contextmanager
def llm_engine(url, key):
    """Give a function that calls a method of a class of the package, and returns the outcome."""
    with subprocess.Popen(
        [python(), str(CALLER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ_for(url, key),
    ) as process:

        def call(owner, method, **given):
            print(json.dumps([owner, method, given]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()
