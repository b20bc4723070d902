"""The user's own code in a worker: a project is packed where it is at home, and runs where none of it is."""

import enum
import io
import shutil
import zipfile
from dataclasses import dataclass

import pytest
from own_programs import run, write
from worker_driver import Worker

from openlaunch.client.packing.callables import pack_callables
from openlaunch_worker.frames import Flags

SCRIPT = '''
import collections.abc, contextvars, enum, functools, importlib.util, json, multiprocessing, pathlib, pickle, sys
import textwrap, typing
import openlaunch
import code as own_code
from app import knobs, model, state
from app.text import clean

class Base: pass

class Unused(Base):
    """Nothing here uses it, but a file of the user's does."""
    def transform(self, x): return 2 * helper(x)

class Color(enum.Enum):
    RED = 1

def helper(x): return x

@functools.cache
def square(n): return n * n

@functools.singledispatch
def kind(x): return "other"

@kind.register
def _(x: int): return "int"

count = 0

def add():
    global count
    count += 1
    return count

@state.register
def registered(): return 1

state.catalogue.add(Color.RED)

@state.kind.register
def _(x: Color): return "a color"

@state.Printer.text.register(bytes)
def _(self, x): return "some bytes"

state.Shape.register(Base)
collections.abc.Sequence.register(Base)
class Late(state.Plugin): pass

knobs.THRESHOLD = 0.9
knobs.OPTIONS["beam"] = 5
knobs.Model.depth = 3
knobs.seen.append("at home")
knobs.count()
def better(): return "better"
textwrap.shorten = better
textwrap.TextWrapper.fill = lambda self, text: "filled"
knobs.worse = better

def configure():
    from app.knobs import settings as chosen
    chosen.debug = True
    chosen.inner.root = pathlib.Path("data")
    setattr(knobs, "from_environ", "by the script")
    chosen.hook = better
    knobs.note.calls = 1
configure()
def set_in_objects():
    knobs.settings.runs += 1
    chosen = knobs.settings
    return [chosen.debug, str(chosen.inner.root), knobs.from_environ, chosen.hook(), knobs.note.calls, chosen.runs]
knobs.settings.runs = 5

spec = importlib.util.spec_from_file_location("renamed", "more/version_2.py")
renamed = sys.modules["renamed"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(renamed)

var = contextvars.ContextVar("var", default="the default")
UserId = typing.NewType("UserId", int)
class Missing:
    def __reduce__(self): return "MISSING"
MISSING = Missing()

def enclosing():
    n = 0
    def add():
        nonlocal n
        n += 1
    def get(): return n
    return add, get
add_one, get_all = enclosing()

STORED = pickle.dumps(Unused())
WORDS = {"one", "two", "three"}

def cache(): return [square(3), square.cache_info().currsize]
def late():
    from late_module import answer
    return answer()
def found_by_name(): return __import__("importlib").import_module("app.plugin").NAME
def data(): return model.data()
def init():
    state.init()
    return [state.model, state.get()]
def script_state():
    import __main__
    return [add(), count, __main__.count]
def stored(): return pickle.loads(STORED).transform(4)
def dispatched(): return [kind(1), kind("")]
def forked():
    with multiprocessing.get_context("fork").Pool(1) as pool: return pool.map(square, [2])
def spawned():
    with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.map(helper, [7])
def words(): return "one" in WORDS
def fails_here(): raise ValueError("in the script")
def fails_there(): return clean(None)
def color(): return Color.RED
def registered_types():
    shape = isinstance(Unused(), state.Shape)
    sequence = isinstance(Unused(), collections.abc.Sequence)
    return [state.kind(Color.RED), state.Printer().text(b""), shape, sequence, len(state.Plugin.made)]
def registries(): return [sorted(state.REGISTRY), len(state.catalogue.items)]
def nested(): return model.made(2)
def shared():
    add_one()
    add_one()
    return get_all()
def marks(user: UserId = 1, x=MISSING): return [x is MISSING, var.get()]
def set_from_outside():
    return [knobs.THRESHOLD, knobs.OPTIONS, knobs.Model.depth, knobs.worse(), knobs.seen, knobs.count()]
def replaced(): return [textwrap.shorten(), textwrap.TextWrapper().fill("")]
def names(): return [renamed.name(), own_code.NAME]
def logging_is_one():
    import logging
    from concurrent.futures import _base
    return _base.logging is logging
FACTORS = {"two": 2}
LIMIT = 9
def by_text():
    import __main__
    return [eval("FACTORS['two'] + 1"), globals()["LIMIT"], __main__.FACTORS]
def config(): return json.loads(pathlib.Path("settings.json").read_text())

ALL = {f.__name__: f for f in (cache, late, found_by_name, data, init, script_state, stored, dispatched, forked,
                               spawned, words, fails_here, fails_there, color, nested, config, registries,
                               shared, marks, set_from_outside, set_in_objects, names, replaced, logging_is_one,
                               by_text, registered_types)}
def predict(what): return ALL[what]()

if __name__ == "__main__":
    from openlaunch.client.packing.callables import pack_callables
    folder = {"code_dir": ".", "include": ["*.json"], "exclude": ["secret.json"]}
    for name, more in (("plain", {}), ("folder", folder)):
        pathlib.Path(name).write_bytes(pack_callables(lambda: None, lambda model: predict, **more))
'''
FILES = {
    ".gitignore": "*.json\nnotes.py\n",
    "settings.json": '{"size": 1}',
    "secret.json": "{}",
    "notes.py": "",
    "more/plugin.py": "",
    "more/readme.txt": "",
    "logging/levels.json": "[]",
    "script.py": SCRIPT,
    "late_module.py": "def answer(): return 42",
    "app/__init__.py": "",
    "app/text.py": "from . import model\ndef clean(t):\n    return t.strip()\n",
    "app/plugin.py": "NAME = 'plugin'",
    "app/words.txt": "some words",
    "app/knobs.py": "THRESHOLD = 0.5\nOPTIONS = {'beam': 1}\nseen = []\ncounted = 0\n"
    "class Model:\n    depth: int = 1\n"
    "class Inner: root = None\n"
    "class Settings:\n    def __init__(self):\n        self.debug, self.inner, self.runs = False, Inner(), 0\n"
    "settings = Settings()\nimport os\nfrom_environ = os.environ.get('NOWHERE')\n"
    "def worse(): return 'worse'\ndef note(): seen.append(1)\n"
    "def count():\n    global counted\n    counted += 1\n    return counted\n",
    "code.py": "NAME = 'own code'",
    "more/version_2.py": "def name(): return __name__",
    "app/state.py": "model = None\ndef init():\n    global model\n    model = 'loaded'\ndef get(): return model\n"
    "REGISTRY = {}\ndef register(f):\n    REGISTRY[f.__name__] = f\n    return f\n"
    "class Catalogue:\n    def __init__(self): self.items = []\n    def add(self, one): self.items.append(one)\n"
    "catalogue = Catalogue()\n@register\ndef of_the_module(): pass\n"
    "import abc, functools\n@functools.singledispatch\ndef kind(x): return 'other'\n"
    "class Printer:\n    @functools.singledispatchmethod\n    def text(self, x): return 'other'\n"
    "class Shape(abc.ABC): pass\n"
    "class Plugin:\n    made = []\n    def __init_subclass__(cls): Plugin.made.append(cls)\n",
    "app/model.py": """
        import threading
        from pathlib import Path
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import torch
        lock = threading.Lock()
        factor = 3
        def data():
            with lock:
                return Path(__file__).with_name("words.txt").read_text()
        def made(x):
            return times(x)()
        def times(x):
            return lambda: x * factor
        """,
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Each kind of bundle as two runs of the program make it; the program's files are gone afterwards."""
    home = write(tmp_path_factory.mktemp("home"), FILES)
    made = {}
    for seed in ("1", "2"):
        run(home, "script.py", PYTHONHASHSEED=seed)
        for name in ("plain", "folder"):
            made.setdefault(name, []).append((home / name).read_bytes())
    shutil.rmtree(home)
    return made


@pytest.fixture(scope="module")
def worker(bundles):
    with Worker(bundles["plain"][0]) as worker:
        worker.ready()
        yield worker


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("cache", [9, 1]),
        ("late", 42),
        ("found_by_name", "plugin"),
        ("data", "some words"),
        ("init", ["loaded", "loaded"]),
        ("script_state", [1, 1, 1]),
        ("stored", 8),
        ("dispatched", ["int", "other"]),
        ("forked", [4]),
        ("spawned", [7]),
        ("words", True),
        ("nested", 6),
        ("registries", [["of_the_module", "registered"], 1]),
        ("shared", 2),
        ("marks", [True, "the default"]),
        ("set_from_outside", [0.9, {"beam": 5}, 3, "better", [], 1]),
        ("set_in_objects", [True, "data", "by the script", "better", 1, 6]),
        ("names", ["renamed", "own code"]),
        ("replaced", ["better", "filled"]),
        ("registered_types", ["a color", "some bytes", True, True, 1]),
        ("by_text", [3, 9, {"two": 2}]),
    ],
)
def test_code_does_what_it_does_at_home(worker, what, value):
    assert worker.value(what=what) == value


@pytest.mark.parametrize(
    ("what", "frame", "line"),
    [
        ("fails_here", 'script.py", line ', 'raise ValueError("in the script")'),
        ("fails_there", 'File "app/text.py", line 3, in clean', "return t.strip()"),
    ],
)
def test_tracebacks_have_file_line_and_text(worker, what, frame, line):
    text = worker.call({"args": {"what": what}})["traceback"]
    assert frame in text
    assert line in text
    assert "openlaunch" not in text


def test_magics_and_commands_of_a_notebook_are_named(tmp_path):
    """IPython makes `get_ipython().getoutput("ls")` of `!ls`; what it belongs to holds connections."""
    script = """
        import sqlite3
        from openlaunch.client.packing.callables import pack_callables
        class Shell:
            def __init__(self): self.history = sqlite3.connect(":memory:")
            def get(self): return self
        get_ipython = Shell().get
        def listed(): return get_ipython().getoutput("ls")
        try:
            pack_callables(lambda: None, lambda model: listed)
        except Exception as error:
            print(error)
        """
    said = run(write(tmp_path, {"cell.py": script}), "cell.py")
    assert "the functions use the notebook, which can't go along: " in said
    assert (
        "the global 'listed' of __main__ → the global 'get_ipython' of __main__. A magic, as in %time" in said
    )


def test_the_same_code_is_the_same_bytes(bundles):
    assert bundles["plain"][0] == bundles["plain"][1]
    assert bundles["folder"][0] == bundles["folder"][1]


def names(data, below):
    found = zipfile.ZipFile(io.BytesIO(data)).namelist()
    sources = (name for name in found if not name.endswith(".pyc"))
    return {name.removeprefix(below) for name in sources if name.startswith(below)}


PACKAGE = {
    f"app/{name}"
    for name in ("__init__.py", "knobs.py", "model.py", "plugin.py", "state.py", "text.py", "words.txt")
}


def test_what_is_imported_goes_along_and_packages_whole(bundles):
    assert names(bundles["plain"][0], "modules/") == {*PACKAGE, "code.py", "late_module.py", "renamed.py"}


def test_a_folder_goes_along_but_for_what_git_ignores_and_what_is_not_wanted(bundles):
    data = bundles["folder"][0]
    more = {
        "logging/levels.json",
        "code.py",
        "late_module.py",
        "more/plugin.py",
        "more/version_2.py",
        "script.py",
        "settings.json",
    }
    assert names(data, "code/") == PACKAGE | more
    assert names(data, "modules/") == {"renamed.py"}


def test_workers_run_in_the_folder(bundles):
    with Worker(bundles["folder"][0]) as worker:
        worker.ready()
        assert worker.value(what="config") == {"size": 1}
        assert worker.value(what="logging_is_one")
        assert worker.value(what="late") == 42
        assert worker.value(what="data") == "some words"


class Color(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int


def paint(x):
    assert x > 0, "x has to be positive"
    return Color.RED, Point(x)


def test_functions_of_a_test_suite_return_its_own_classes_and_have_plain_asserts():
    with Worker(pack_callables(lambda: None, lambda model: paint)) as worker:
        worker.ready()
        sent = worker.request({"args": {"x": 1}}, Flags.PICKLED)
        assert worker.answer()[0] == sent
        assert "AssertionError: x has to be positive" in worker.call({"args": {"x": 0}})["traceback"]
