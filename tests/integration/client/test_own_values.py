"""Values that a program has set in its modules and objects: they go along, or are named."""

import subprocess
import sys

import pytest
from own_programs import run, write
from worker_driver import Worker


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


def test_what_is_replaced_is_replaced_where_other_modules_have_imported_it(tmp_path):
    script = """
        import pathlib, config
        config.settings = config.Settings()
        config.settings.debug = True
        config.LIMIT = 9
        config.NAMES = {"b", "a"}
        from core import seen
        config.LATER = 9
        if __name__ == "__main__":
            from openlaunch.client.packing.callables import pack_callables
            pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: seen))
            print(seen())
        """
    config = "class Settings: debug = False\nsettings = Settings()\nLIMIT = 5\nLATER = 5\nNAMES = set()\n"
    core = """
        import config
        from config import LATER, LIMIT, NAMES
        from config import settings as chosen
        class Service:
            def __init__(self): self.chosen = config.settings
            first = chosen
            def method(self, a=1, one=chosen): return one
        service = Service()
        def default(one=chosen, *, other=chosen, more=None): return one is other is chosen and more is None
        def seen():
            same = chosen is config.settings is service.chosen, NAMES is config.NAMES, default()
            kept = Service.first is service.method() is chosen
            return [chosen.debug, LIMIT, LATER, sorted(NAMES), *same, kept]
        """
    at_home = run(write(tmp_path, {"script.py": script, "config.py": config, "core.py": core}), "script.py")
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() == [True, 9, 5, ["a", "b"], True, True, True, True]
    assert at_home.strip() == str([True, 9, 5, ["a", "b"], True, True, True, True])


PUT_TOGETHER = """
    import collections, importlib, multiprocessing, pathlib, sys, threading, types
    import helpers
    made = types.ModuleType("made")
    exec("STATE = [3]\\ndef state(): return STATE", vars(made))
    sys.modules["made"] = made
    Point = collections.namedtuple("Point", "x")
    POINT = Point(1)
    class Model: size = 4
    model = Model()
    TAKEN = {"helpers": helpers}
    def asked():
        import __main__, made
        there = helpers.first() is helpers.NAMES and made.state() is made.STATE
        return [
            there, helpers.NAMES, sorted(helpers.WORDS), helpers.TABLE["a"].size, helpers.MODEL.size,
            helpers.twice(4), made.STATE,
            __main__.POINT.x, sys.modules["__main__"].model.size, TAKEN["helpers"].later(),
        ]
    def pack():
        from openlaunch.client.packing.callables import pack_callables
        pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: asked))
    if __name__ == "__main__":
        if "spawned" in sys.argv:
            process = multiprocessing.get_context("spawn").Process(target=pack)
            process.start()
            process.join()
        else:
            pack()
    """
HELPERS = """
    import threading
    import openlaunch
    NAMES, WORDS, LOCK = ["one"], {"b", "a"}, threading.Lock()
    class Model: size = 7
    TABLE, MODEL, twice = {"a": Model}, Model(), lambda n: n * 2
    OF_NO_USE = threading.Lock()
    def first(): return NAMES
    def second(): return first()[0] + max(WORDS)
    def later(): return second()
    """


@pytest.mark.parametrize("how", [(), ("spawned",)])
def test_modules_that_are_put_together_have_what_code_asks_them_for(tmp_path, how):
    """Of a module that imports the client, of one that the program has made, and of the script under its name."""
    run(write(tmp_path, {"script.py": PUT_TOGETHER, "helpers.py": HELPERS}), "script.py", *how)
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() == [True, ["one"], ["a", "b"], 7, 7, 8, [3], 1, 4, "oneb"]


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
