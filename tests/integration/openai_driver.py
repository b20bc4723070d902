"""The unmodified `openai` package, and what makes a tiny model, in an environment made when first needed."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from own_environment import python_of
from server_driver import SMALL

DATA = Path(__file__).parents[1] / "data"
ROUTES = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
PACKAGES = ("openai>=3,<4", "gguf", "numpy", "xllamacpp")


def python():
    """Return the interpreter of the environment."""
    return python_of("openai", PACKAGES)


@contextmanager
def openai_client(url, key, base="/v1"):
    """Give a function that calls a method of the package's client, and returns the outcome."""
    command = [python(), str(DATA / "openai_caller.py"), f"{url}{base}", key]
    # Without the proxies and the settings of whoever runs the tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert json.loads(process.stdout.readline())["version"].startswith("3.")

        def call(method, **given):
            print(json.dumps([method, given]), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()


def mock_engine(client, name, kind="streaming", routes=ROUTES, env=None, names=(), sleep=None, **settings):
    """Deploy an engine that does as it is told."""
    bundle = client.create_model_bundle_from_command(
        model_bundle_name=name,
        command=["python", "mock_engine/mock_engine.py"],
        base_paths=[str(DATA / "mock_engine")],
        healthcheck_route="/health",
        openai={"routes": routes, "models": list(names)},
        env=env,
        sleep=sleep,
    )
    return client.create_model_endpoint(
        endpoint_name=name, model_bundle=bundle, endpoint_type=kind, **{**SMALL, "per_worker": 16, **settings}
    )
