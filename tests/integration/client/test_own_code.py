"""The user's own code in a worker: a project is packed where it is at home, and runs where none of it is."""

import enum
import io
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass

import pytest
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


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def run(folder, *arguments, **env):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_what_is_set_in_an_object_that_stays_at_home_fails_no_worker(tmp_path):
    script = """
        import pathlib, threading, kept
        class Model: pass
        def held(): return kept.state.model is None
        kept.state.model = Model()
        kept.state.model.lock = threading.Lock()
        kept.state.model.training = False
        if __name__ == "__main__":
            from openlaunch.client.packing.callables import pack_callables
            pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: held))
        """
    text = "class State: model = None\nstate = State()\n"
    run(write(tmp_path, {"script.py": script, "kept.py": text}), "script.py")
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() is True


def test_what_can_not_be_pickled_is_found_in_the_module_that_has_it(tmp_path):
    """A script imports it by its name, as a connection or a lock of the module."""
    script = """
        import pathlib, threading
        import kept
        from kept import LOCK, holder
        other = threading.Lock()
        def held():
            with LOCK: return [LOCK is kept.LOCK, holder is kept.holder]
        def uses_another(): return [held(), other]
        if __name__ == "__main__":
            from openlaunch.client.packing.callables import pack_callables
            pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: held))
            try:
                pack_callables(lambda: None, lambda model: uses_another)
            except Exception as error:
                print(error)
        """
    text = "import threading\nLOCK = threading.Lock()\nclass Holder: pass\nholder = Holder()\nholder.lock = LOCK\n"
    said = run(write(tmp_path, {"script.py": script, "kept.py": text}), "script.py")
    assert "the global 'other' of __main__, of type _thread.lock" in said
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() == [True, True]


BY_COMPUTED_NAMES = """
import pathlib, sys
import config

def prepare(one, other):
    one.size = 8
    setattr(other, "inner", "in")

def main(names):
    for name, value in {"DEVICE": "gpu"}.items():
        setattr(config, name, value)
    vars(config).update(SIZE=int("9"))
    config.__dict__["ADDED"] = "new"
    config.OPTIONS["beam"] = 7
    sys.modules["config"].LATE = 1
    for name in names:
        setattr(config.other, name, "set")
    config.settings.configure(debug=True)
    config.settings.quiet()
    config.init("loaded")
    config.lazy()
    prepare(config.deep, other=config.deep)

def predict():
    deep = config.deep
    by_name = [config.DEVICE, config.SIZE, config.ADDED, config.OPTIONS, config.LATE]
    return [*by_name, deep.size, deep.inner, config.lazy()]

if __name__ == "__main__":
    from openlaunch.client.packing.callables import pack_callables
    main(["na" + "me"])
    pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: predict))
"""
COMPUTED = """
import os
DEVICE, SIZE, FOLDER = os.environ.get("NOWHERE", "cpu"), int("4"), os.path.dirname(__file__)
OPTIONS = dict(beam=int("1"), depth=2)
_model = None
class Settings:
    def __init__(self):
        self.debug, self.quick, self.name = False, True, os.environ.get("NOWHERE", "")
    def configure(self, debug): self._set(debug)
    def _set(self, debug): self.debug = debug
    def quiet(self): self.quick = True
settings, other = Settings(), Settings()
class Deep: inner, size = None, int("3")
deep = Deep()
def init(model):
    global _model
    _model = model
def lazy():
    global calls
    calls = 1
    return calls
"""


def test_what_is_set_by_computed_names_and_by_functions_goes_along_or_is_named(tmp_path):
    write(tmp_path, {"script.py": BY_COMPUTED_NAMES, "config.py": COMPUTED})
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    said = done.stderr.splitlines()
    assert len(said) == 4
    assert "line 11 of script.py sets values of config by names" in said[0]
    assert "may be FOLDER, OPTIONS, _model, calls:" in said[0]
    assert "line 17 of script.py sets values of config.other by names" in said[1]
    assert "line 20 of script.py calls config.init, which sets config._model:" in said[2]
    assert "calls config.settings.configure, which sets config.settings.debug:" in said[3]
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() == ["gpu", 9, "new", {"beam": 7, "depth": 2}, 1, 8, "in", 1]


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


DEPLOYS = """
import dataclasses, pathlib, pickle, sys, types
from openlaunch import testing
from openlaunch.client.packing.callables import pack_callables
from openlaunch.errors import WaitTimeout

tests = types.ModuleType("no_package.of_tests")
sys.modules[tests.__name__] = tests

@dataclasses.dataclass
class Service:
    factor: int = 3

    def predict(self, x):
        try:
            return self.factor * x
        except WaitTimeout:
            return None

    def deploy(self):
        with testing.local() as client:
            client.deploy(self.predict, name="service")

Service.__module__ = tests.__name__
tests.Service = Service

def predict(x):
    if x < 0:
        return pickle.loads(pickle.dumps(Service(x))).factor
    return Service().predict(x)

pathlib.Path("bundle").write_bytes(pack_callables(lambda: None, lambda model: predict))
"""


def test_classes_that_deploy_themselves_run_and_are_found_in_a_package_that_is_not_there(tmp_path):
    run(write(tmp_path, {"script.py": DEPLOYS}), "script.py")
    with Worker((tmp_path / "bundle").read_bytes()) as worker:
        worker.ready()
        assert worker.value(x=2) == 6
        assert worker.value(x=-4) == -4


ANNOTATED = """
from __future__ import annotations
import dataclasses, pathlib
from datetime import date
from openlaunch.client.operations.deploy import loaders
from openlaunch.client.packing.callables import pack_callables
from openlaunch.client.packing.interface import interface_of, made_types

@dataclasses.dataclass
class Item:
    when: date
    more: list[Item] = dataclasses.field(default_factory=list)

def predict(item: Item): return [item.when.year, type(item.more[0]).__name__]

takes = made_types(interface_of(predict, has_model=False))
pathlib.Path("bundle").write_bytes(pack_callables(*loaders(predict, None, takes)))
"""


def test_what_only_annotations_name_is_made_in_a_worker(tmp_path):
    run(write(tmp_path, {"script.py": ANNOTATED}), "script.py")
    with Worker((tmp_path / "bundle").read_bytes()) as worker:
        worker.ready()
        item = {"when": "2026-01-02", "more": [{"when": "2026-01-02"}]}
        assert worker.value(item=item) == [2026, "Item"]


WITHIN_ITSELF = """
import pathlib
from datetime import date
from typing import TypeVar
from typing_extensions import TypeAliasType
from openlaunch.client.operations.deploy import loaders
from openlaunch.client.packing.callables import pack_callables
from openlaunch.client.packing.interface import interface_of, made_types

ALIASES

def flat(x): return [inner for one in x for inner in flat(one)] if isinstance(x, list) else [type(x).__name__]

def predict(nested: Nested[date], days: Days): return flat(nested) + flat(days)

takes = made_types(interface_of(predict, has_model=False))
pathlib.Path("bundle").write_bytes(pack_callables(*loaders(predict, None, takes)))
"""
BY_CALLS = """
T = TypeVar("T")
Nested = TypeAliasType("Nested", "T | list[Nested[T]]", type_params=(T,))
Days = TypeAliasType("Days", "date | list[Days]")
"""
BY_STATEMENTS = """
type Nested[T] = T | list[Nested[T]]
type Days = date | list[Days]
"""


@pytest.mark.parametrize("aliases", [BY_CALLS, BY_STATEMENTS], ids=["calls", "statements"])
def test_types_of_a_script_that_are_within_themselves_are_made_in_a_worker(tmp_path, aliases):
    if aliases is BY_STATEMENTS and sys.version_info < (3, 12):
        pytest.skip("Python 3.12 brought this syntax")
    run(write(tmp_path, {"script.py": WITHIN_ITSELF.replace("ALIASES", aliases)}), "script.py")
    with Worker((tmp_path / "bundle").read_bytes()) as worker:
        worker.ready()
        day = "2026-01-02"
        assert worker.value(nested=[day, [[day]]], days=[[day]]) == ["date"] * 3


GENERIC = """
import pathlib, sys
from typing import Callable, ParamSpec, TypeVarTuple
from openlaunch.client.packing.callables import pack_callables

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

def called(function: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    return function(*args, **kwargs)

def counted(*items: *Ts) -> tuple[int, *Ts]:
    return len(items), *items
"""
NEW_SYNTAX = """
type Pair[T] = tuple[T, T]
type Tree = dict[str, Tree] | int

class Box[T]:
    def __init__(self, item: T): self.item = item

def swapped[T](pair: Pair[T]) -> Pair[T]: return Box(pair[1]).item, pair[0]

def called[**Q, R](function: Callable[Q, R], *args: Q.args) -> R: return function(*args)

def counted[*Us](*items: *Us) -> tuple[int, *Us]: return len(items) + height(0), *swapped(items)

def height(tree: Tree) -> int: return 0 if isinstance(tree, int) else 1 + max(map(height, tree.values()))
"""
GENERIC_END = """
def predict(x):
    return [called(int, x), counted(x, 2)]

pathlib.Path(sys.argv[1]).write_bytes(pack_callables(lambda: None, lambda model: predict))
"""


@pytest.mark.parametrize("syntax", ["", NEW_SYNTAX], ids=["names", "syntax"])
def test_scripts_may_be_generic(tmp_path, syntax):
    if syntax and sys.version_info < (3, 12):
        pytest.skip("Python 3.12 brought this syntax")
    (tmp_path / "script.py").write_text(GENERIC + syntax + GENERIC_END)
    for name in ("first", "second"):
        subprocess.run([sys.executable, "script.py", name], cwd=tmp_path, check=True)
    data = (tmp_path / "first").read_bytes()
    assert data == (tmp_path / "second").read_bytes()
    with Worker(data) as worker:
        worker.ready()
        assert worker.value(x=1) == [1, [2, 2, 1] if syntax else [2, 1, 2]]
