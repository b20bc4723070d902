"""How `openlaunch deploy` finds the function that it is given."""

import sys

import pytest
import typer

from openlaunch.cli.targets import load_functions

MODEL = """
import functools
import json
from pathlib import Path

LIMIT = 3

class Thing:
    pass

def predict(text: str, times: int = 1):
    return text * times

def load():
    return 10

def _helper():
    return 1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with a model of two functions, one of a single function, and a package."""
    files = {
        "target_two.py": MODEL,
        "target_one.py": "def predict(x):\n    return x\n",
        "target-dash.py": "def predict(x):\n    return x\n",
        "target_none.py": "from json import dumps\n",
        "target_pkg/__init__.py": "",
        "target_pkg/inner/__init__.py": "",
        "target_pkg/inner/app.py": "from .helper import LIMIT\ndef predict(x):\n    return x + LIMIT\n",
        "target_pkg/inner/helper.py": "LIMIT = 5\n",
        "target_broken.py": "def predict(x):\n    return x\n\nvalue = 1 / 0\n",
        "target_exits.py": "import sys\nsys.exit('no arguments')\n",
        "target_syntax.py": "def predict(x)\n",
        "target_needs.py": "import no_such_package_of_anybody\n",
        "json.py": "def predict(x):\n    return x\n",
        "notes.txt": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("target")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "target",
    [
        "target_one.py",
        "target_one",
        "target_one.py:predict",
        "target_one:predict",
        "./target_one.py:predict",
        "target-dash.py",
        "target_two.py:predict",
        "target_pkg/inner/app.py",
        "target_pkg.inner.app:predict",
    ],
)
def test_a_function_is_found_in_a_file_or_a_module(target):
    function, loader, *_ = load_functions(target, None)
    assert (function.__name__, loader) == ("predict", None)


def test_a_file_of_a_package_is_imported_by_its_whole_name_from_wherever_it_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder / "target_pkg" / "inner")
    function, *_ = load_functions("app.py", None)
    assert function.__module__ == "target_pkg.inner.app"
    assert function(1) == 6


def test_the_function_that_loads_the_model_is_in_the_same_file_or_another_one():
    function, loader, *_ = load_functions("target_two.py", "load")  # one function is left
    assert (function.__name__, loader()) == ("predict", 10)
    assert load_functions("target_one.py", "target_two.py:load")[1].__name__ == "load"
    assert load_functions("target_one.py", "target_two:load")[1].__name__ == "load"


def test_the_hooks_are_in_the_same_file_and_are_not_the_predict_function():
    found = load_functions("target_two.py", None, shutdown="load")
    assert (found.predict.__name__, found.health, found.shutdown()) == ("predict", None, 10)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "target_two.py",
            "has 2 functions: predict(text, times), load(); name one of them, such as target_two.py:",
        ),
        ("target_two", "name one of them, such as target_two:predict"),
        ("target_two.py:predikt", "target_two.py has no 'predikt'; did you mean predict?"),
        ("target_two.py:LIMIT", "target_two.py:LIMIT is of type int; a function is needed"),
        ("target_none.py", "target_none.py has no function of its own"),
        ("target_tow.py:predict", "target_tow.py does not exist; "),
        ("target_tow.py:predict", "target_two.py"),
        ("nowhere/app.py", "nowhere has no Python file"),
        ("target_pkg/", "is not a Python file"),
        ("notes.txt", "notes.txt is not a Python file"),
        ("target_tow:predict", "there is no module 'target_tow' in "),
        ("target_broken.py", "ZeroDivisionError: division by zero ("),
        ("target_broken.py", "target_broken.py, line 4)"),
        ("target_exits.py", "SystemExit: no arguments ("),
        ("target_syntax.py", "SyntaxError: expected ':' (target_syntax.py, line 1)"),
        ("target_needs.py", "No module named 'no_such_package_of_anybody' ("),
        ("target_needs.py", "install it here too, or import it inside the function"),
        ("json.py:predict", "another module is named json: "),
        (":predict", "no file and no module is named"),
        ("", "no file and no module is named"),
    ],
)
def test_what_is_not_found_is_answered_with_what_there_is(target, said):
    with pytest.raises(typer.BadParameter) as caught:
        load_functions(target, None)
    assert said in str(caught.value)
