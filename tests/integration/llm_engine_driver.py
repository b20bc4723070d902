"""The unmodified `scale-llm-engine` package, in an environment made when first needed."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from own_environment import python_of

CALLER = Path(__file__).parents[1] / "data" / "llm_engine_caller.py"


def python():
    """Return the interpreter of the environment."""
    return python_of("llm-engine", ("scale-llm-engine",))


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
