"""A TypeScript client that OpenAPI Generator makes of an endpoint's document is compiled, and used."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx2
import pytest
from server_driver import SMALL, running

TOOLS = ("java", "node", "npm")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("openapi_generator_cli") is None
        or not all(shutil.which(tool) for tool in TOOLS),
        reason="openapi-generator-cli, Java and Node.js are needed",
    ),
]
COMPILER = "typescript@5"
SECONDS = 300


@dataclasses.dataclass
class Box:
    x: float
    label: str | None = None


def find(text: str, size: Literal["small", "large"] = "small", boxes: list[Box] | None = None) -> list[Box]:
    if not text:
        raise ValueError("there is no text")
    return [*(boxes or []), Box(float(len(text)), size)]


def flip(image: bytes) -> bytes:
    return image[::-1]


def later(n: int) -> dict[str, int]:
    return {"n": n}


def anything(**values):
    return values


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a program to its end, and return what it has printed."""
    env = {**os.environ, **environ}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def client():
    with running() as client:
        for fn, kind in ((find, "sync"), (flip, "sync"), (later, "async"), (anything, "sync")):
            client.deploy(fn, name=fn.__name__, endpoint_type=kind, max_workers=1, **SMALL)
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a compiler of TypeScript."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "package.json").write_text('{"type": "module"}')
    run("npm", "install", "--no-audit", "--no-fund", "--silent", COMPILER, "@types/node@20", cwd=folder)
    return folder


PROGRAMS = {
    "find": """
        const found = await api.predict({ findRequestSchema: { text: "four", size: "large", boxes: [{ x: 1 }] } });
        const labels: (string | null | undefined)[] = found.map((box) => box.label);
        let problem: any = null;
        try { await api.predict({ findRequestSchema: { text: "" } }); }
        catch (error: any) { problem = await error.response.json(); }
        say([found.map((box) => box.x), labels, problem.status, problem.detail.includes("there is no text")]);
    """,
    "flip": """
        const image = new Blob([new Uint8Array([1, 2, 3])]);
        const flipped: Blob = await api.predict({ image });
        say(Array.from(new Uint8Array(await flipped.arrayBuffer())));
    """,
    "later": """
        const task = await api.predict({ laterRequestSchema: { n: 7 } });
        const value: { [key: string]: number } = await api.getPrediction({ taskId: task.taskId, prefer: "wait=60" });
        say([task.taskId.length > 0, value]);
    """,
    "anything": """
        say(await api.predict({ body: { x: 1 } }));
    """,
}
SAID = {
    "find": [[1, 4], [None, "large"], 500, True],
    "flip": [3, 2, 1],
    "later": [True, {"n": 7}],
    "anything": {"x": 1},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_generated_client_works(client, folder, name):
    with httpx2.Client(base_url=client.server.url, auth=(client.server.api_key, "")) as raw:
        document = folder / f"{name}.json"
        document.write_text(raw.get(f"/e/{name}/openapi.json").text)
    generator = Path(sys.executable).with_name("openapi-generator-cli")
    options = ("--additional-properties=importFileExtension=.js", "-i", document, "-o", folder / name)
    run(generator, "generate", "-g", "typescript-fetch", *options, cwd=folder)
    program = folder / f"use_{name}.ts"
    program.write_text(
        f"""
        import {{ Configuration, DefaultApi }} from "./{name}/index.js";
        const key = async () => process.env.OPENLAUNCH_API_KEY ?? "";
        const api = new DefaultApi(new Configuration({{ accessToken: key }}));
        const say = (value: unknown) => console.log(JSON.stringify(value));
        {PROGRAMS[name]}
        """
    )
    strict = (
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--lib",
        "es2022,dom",
        "--types",
        "node",
    )
    run("npx", "tsc", *strict, "--outDir", "built", program.name, cwd=folder)
    key = {"OPENLAUNCH_API_KEY": client.server.api_key}
    said = json.loads(run("node", f"built/use_{name}.js", cwd=folder, **key))
    assert said == SAID[name]
