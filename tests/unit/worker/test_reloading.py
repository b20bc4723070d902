"""Modules follow their files in place, and keep what did not change."""

import ast
import importlib
import itertools
import os
import sys

import pytest

from openlaunch_worker import reloading
from openlaunch_worker.reloading import Broken, Modules

APP = """\
from __future__ import annotations
import functools
from reloaded_parts import scale, weights

class Model:
    def __init__(self):
        self.w = weights()

    @property
    def twice(self):
        return 2 * self.w

    def predict(self, x):
        return self.w * x

MODEL = Model()

@functools.cache
def cached():
    return object()

def load():
    return Model()

def predict(model, x: int):
    return scale(x) + model.w
"""
PARTS = "def scale(x):\n    return x * 2\n\ndef weights():\n    return 7\n"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The module, and what saves a file of it and gives the names that mean something else."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # This process has imported hundreds of files of the project, which would be the author's own.
    monkeypatch.setattr(reloading, "_is_own", lambda path: path.is_relative_to(tmp_path))
    times = itertools.count(1)

    def write(name, text):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (0, next(times)))

    write("reloaded_app.py", APP)
    write("reloaded_parts.py", PARTS)
    for name in ("reloaded_app", "reloaded_parts"):
        sys.modules.pop(name, None)
    module = importlib.import_module("reloaded_app")
    modules = Modules()

    def save(text, name="reloaded_app"):
        write(f"{name}.py", text)
        return {changed for module, changed in modules.refresh() or () if module == "reloaded_app"}

    yield module, save
    for name in ("reloaded_app", "reloaded_parts"):
        sys.modules.pop(name, None)


def test_a_functions_new_body_is_used_and_the_model_stays(program):
    app, save = program
    model, cached = app.MODEL, app.cached()
    held = app.predict
    changed = save(APP.replace("scale(x) + model.w", "scale(x) - model.w"))
    assert changed == {"predict"}
    assert held(model, 3) == -1
    assert app.MODEL is model
    assert app.cached() is cached


def test_a_method_of_a_loaded_model_gets_its_new_body(program):
    app, save = program
    model = app.MODEL
    assert save(APP.replace("self.w * x", "self.w + x").replace("2 * self.w", "3 * self.w")) == {
        "Model.predict",
        "Model.twice",
    }
    assert (app.MODEL, model.predict(1), model.twice) == (model, 8, 21)


def test_what_a_module_imports_is_followed(program):
    app, save = program
    model = app.MODEL
    assert save(PARTS.replace("x * 2", "x * 3"), "reloaded_parts") == {"scale", "predict"}
    assert (app.MODEL, app.predict(model, 3)) == (model, 16)


def test_what_makes_the_model_makes_it_anew(program):
    app, save = program
    assert {"load", "MODEL"} <= save(PARTS.replace("7", "8"), "reloaded_parts")
    assert app.MODEL.w == 8


def test_a_cache_of_what_has_changed_is_emptied(program):
    app, save = program
    cached = app.cached()
    save(APP.replace("return object()", "return [1]"))
    assert app.cached() == [1] != cached


def test_lines_are_those_of_the_file(program):
    app, save = program
    assert save("# a comment\n\n" + APP) == set()
    line = f"# a comment\n\n{APP}".splitlines().index("def predict(model, x: int):") + 1
    assert app.predict.__code__.co_firstlineno == line
    assert app.Model.predict.__code__.co_firstlineno < line


def test_new_defaults_new_functions_and_new_imports_are_run(program):
    app, save = program
    save(
        APP.replace("x: int", "x: int = other(4)").replace(
            "def predict", "import math\ndef other(x):\n    return x\n\ndef predict"
        )
    )
    assert app.predict(app.MODEL) == 15
    assert app.math.pi > 3
    save(APP)
    assert not hasattr(app, "other")


@pytest.mark.parametrize(
    "more", ["x = (", "x = 1 / 0", "import sys\nsys.exit(1)", "def predict(model, x): return 0\nnope"]
)
def test_a_file_that_cannot_be_run_changes_nothing(program, more):
    app, save = program
    model = app.MODEL
    with pytest.raises(Broken) as caught:
        save(f"{APP.replace('self.w * x', '0')}\nMODEL = None\n{more}")
    assert caught.value.error is not None
    assert (app.MODEL, app.predict(model, 3), model.predict(1)) == (model, 13, 7)
    assert "x" not in vars(app)
    assert save(APP.replace("+ model.w", "+ 0")) == {"predict"}
    assert app.predict(model, 3) == 6


def test_generators_and_coroutines_may_take_a_functions_place(program):
    app, save = program
    save(APP.replace("return scale(x) + model.w", "yield x"))
    assert list(app.predict(app.MODEL, 3)) == [3]


def test_a_module_that_does_not_import_what_changed_is_left_alone(tmp_path, program):
    _, save = program
    text = "class Other:\n    def predict(self, x):\n        return x\n\nMADE = [Other().predict(1)]\n"
    (tmp_path / "reloaded_other.py").write_text(text)
    other = importlib.import_module("reloaded_other")
    save(APP + "\n")  # which finds it
    made = other.MADE
    save(APP.replace("self.w * x", "self.w + x"))
    del sys.modules["reloaded_other"]
    assert other.MADE is made


def test_an_edit_takes_apart_what_it_changes_and_not_what_there_is(program, monkeypatch):
    _, save = program
    taken_apart = []
    walk = ast.walk
    monkeypatch.setattr(ast, "walk", lambda node: taken_apart.append(node) or walk(node))
    save(APP.replace("self.w * x", "self.w + x"))
    assert len(taken_apart) > len(PARTS.splitlines())
    taken_apart.clear()
    save(PARTS.replace("* 2", "* 3"), "reloaded_parts")
    assert {each.lineno for each in taken_apart} <= {1, 4}  # the two functions of that file
