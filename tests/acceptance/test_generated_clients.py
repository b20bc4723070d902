"""A TypeScript client that OpenAPI Generator makes of an endpoint's document is compiled, and used."""

import dataclasses
import datetime as dt
import enum
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal, NotRequired

import httpx2
import numpy as np
import pytest
from pydantic import BaseModel, Field
from server_driver import SMALL, running
from typing_extensions import TypedDict

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


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict):
    steps: int
    note: NotRequired[str]


class Tree(BaseModel):
    value: int
    children: "list[Tree]" = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    names: list[str]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@dataclasses.dataclass
class Seen:
    at: dt.datetime
    pets: list[Pet]
    tree: Tree
    grid: list[list[int]]
    options: Options
    color: Color
    either: int | str | list[int]
    days: dict[str, dt.date]


def kinds(
    seen: Seen,
    level: Literal[1, 2] = 1,
    pair: tuple[int, str] = (1, "a"),
    unique: set[int] | None = None,
    more: list[Seen] | None = None,
) -> Seen:
    if level != 2 or pair != (7, "b") or unique != {3} or more:
        raise ValueError([level, pair, unique, more])
    return seen


def scaled(array: np.ndarray, by: float = 2.0, mask: np.ndarray | None = None) -> np.ndarray:
    return array * by


def nothing(x: int) -> None:
    assert x


def later(n: int) -> dict[str, int]:
    return {"n": n}


def anything(**values):
    return values


NEEDS = {kinds: ["pydantic"], scaled: ["numpy"]}


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
        for fn in (find, flip, later, anything, kinds, scaled, nothing):
            kind = "async" if fn is later else "sync"
            given = {"requirements": NEEDS.get(fn, []), "endpoint_type": kind, "max_workers": 1, **SMALL}
            client.deploy(fn, name=fn.__name__, wait=False, **given)
        for endpoint in client.list_model_endpoints():
            endpoint.wait_until_ready(100)
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
    "kinds": """
        const seen = {
            at: new Date("2026-01-02T03:04:05Z"),
            pets: [{ kind: "cat" as const, lives: 3 }, { kind: "dog" as const, names: ["a"] }],
            tree: { value: 1, children: [{ value: 2 }] },
            grid: [[1], [2, 3]],
            options: { steps: 1 },
            color: "blue" as const,
            either: [1, 2],
            days: { first: "2026-01-02" as any },
        };
        const got = await api.predict({
            kindsRequestSchema: { seen, level: 2, pair: [7, "b"], unique: new Set([3]), more: [] },
        });
        const { at, pets, tree, grid, options, color, either } = got;
        say([at.toISOString(), pets, tree.children?.[0].value, grid, options.steps, color, either]);
    """,
    "scaled": """
        say(await api.predict({ scaledRequestSchema: { array: [[1, 2], [3, 4]] } }));
    """,
    "nothing": """
        say(await api.predict({ nothingRequestSchema: { x: 1 } }));
    """,
    "anything": """
        say(await api.predict({ body: { x: 1 } }));
    """,
}
SAID = {
    "find": [[1, 4], [None, "large"], 500, True],
    "flip": [3, 2, 1],
    "later": [True, {"n": 7}],
    "kinds": [
        "2026-01-02T03:04:05.000Z",
        [{"kind": "cat", "lives": 3}, {"kind": "dog", "names": ["a"]}],
        2,
        [[1], [2, 3]],
        1,
        "blue",
        [1, 2],
    ],
    "scaled": [[2, 4], [6, 8]],
    "nothing": None,
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
