"""`openlaunch run` calls a function here, as a worker would."""

import sys

import pytest

from openlaunch.cli.app import run

APP = """\
import enum
import openlaunch
from dataclasses import dataclass
from pathlib import Path

class Tone(enum.Enum):
    LOUD = "loud"

@dataclass
class Point:
    x: float

def load():
    return 2

def double(model, x: int, tone: Tone | None = None):
    if x == 0:
        raise ValueError("zero")
    return {"x": model * x, "tone": tone is Tone.LOUD}

async def load_later():
    return 3

async def later(model, p: Point) -> float:
    return model * p.x

def size(file: Path):
    return len(file.read_bytes())

def name(file):
    return file.name

def count(n: int):
    yield from range(n)

async def count_later(n: int):
    for i in range(n):
        yield i

def raw(text: str) -> bytes:
    return text.encode()

def partly(n: int, context: openlaunch.Context):
    context.progress(0.5)
    return [n, context.cancelled]

def roots(inputs: list[dict]) -> list:
    return [i["x"] ** 0.5 if i["x"] >= 0 else ValueError("no root") for i in inputs]

def halves(model, points: list[Point]) -> list[float]:
    return [model * p.x / 4 for p in points]

def no_list(inputs):
    return 3

def nan():
    return float("nan")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "run_here_app.py").write_text(APP)
    (tmp_path / "args.json").write_text('{"x": 4}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("run_here_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["double", "--load", "load", "--args", '{"x": 3}'], '{"x": 6, "tone": false}\n'),
        (["double", "--load", "load", "--args", "x=3", "--args", "tone=loud"], '{"x": 6, "tone": true}\n'),
        (["double", "--load", "load", "--args", "@args.json"], '{"x": 8, "tone": false}\n'),
        (["later", "--load", "load_later", "--args", '{"p": {"x": 1.5}}'], "4.5\n"),
        (["size", "--args", "file=@args.json"], "8\n"),
        (["name", "--args", "file=@args.json"], "args.json\n"),
        (["count", "--args", "n=2"], "0\n1\n"),
        (["partly", "--args", "n=2"], "[2, false]\n"),
        (["count_later", "--args", "n=2"], "0\n1\n"),
        (["roots", "--batch", "--args", "x=4"], "2.0\n"),
        (["halves", "--batch", "--load", "load", "--args", "x=4"], "2.0\n"),
        (["raw", "--args", "text=5"], ""),
        (["raw", "--args", 'text="5"', "--json"], '"data:application/octet-stream;type=bytes;base64,NQ=="\n'),
    ],
)
def test_it_prints_what_the_function_gives(options, printed, capfd):
    code = run(["run", f"run_here_app.py:{options[0]}", *options[1:]])
    out, err = capfd.readouterr()
    assert out == printed, err
    assert code == (0 if printed else 2)


def test_bytes_are_written_as_they_are(folder, capfd):
    assert run(["run", "run_here_app.py:raw", "--args", "text=one", "--output", "value"]) == 0
    assert (folder / "value").read_bytes() == b"one"
    assert "3 bytes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["double", "--load", "load", "--args", "x=three"],
            "x: Input should be a valid integer, and 'three' came",
        ),
        (
            ["double", "--load", "load", "--args", "y=3"],
            "missing a required argument: 'x'; it takes: x: int, tone",
        ),
        (["later", "--load", "load", "--args", '{"p": {"x": "a"}}'], "p.x: "),
        (["size", "--args", "file=@nowhere"], "there is no file 'nowhere'"),
        (["size", "--args", "file=text"], "a file is needed: a data: URL"),
        (["count", "--args", "n=@args.json"], "n: it is not a file"),
        (["count", "--args", "5"], "an object is needed"),
        (["roots", "--batch", "--args", "x=-4"], "gives ValueError for this input: no root"),
        (["halves", "--batch", "--load", "load", "--args", "x=no"], "x: Input should be a valid number"),
        (["no_list", "--batch", "--args", "x=1"], "a list with one result for each input"),
        (["nan"], "NaN"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(options, message, capfd):
    assert run(["run", f"run_here_app.py:{options[0]}", *options[1:]]) in (1, 2)
    assert message in capfd.readouterr().err


def test_a_traceback_has_the_users_lines_alone(capfd):
    assert run(["run", "run_here_app.py:double", "--load", "load", "--args", "x=0"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("File ") == 1
    assert 'run_here_app.py", line 18, in double\n    raise ValueError("zero")' in err
    assert err.endswith("ValueError: zero\nerror: run_here_app.py:double failed\n")


def test_a_file_that_cannot_be_imported_shows_where(folder, capfd):
    (folder / "run_here_bad.py").write_text("def f(x)\n    return x\n")
    assert run(["run", "run_here_bad.py"]) == 2
    assert "def f(x)\n            ^" in capfd.readouterr().err
