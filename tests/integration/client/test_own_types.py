"""Classes and types of a program, as workers find them."""

import subprocess
import sys

import pytest
from own_programs import run, write
from worker_driver import Worker

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


def test_models_with_validators_are_made_within_generic_ones(tmp_path):
    script = """
        import pathlib
        from typing import Generic, TypeVar
        from pydantic import BaseModel, model_validator
        T = TypeVar("T")
        class Item(BaseModel):
            name: str
            @model_validator(mode="after")
            def check(self):
                self.name += "!"
                return self
        class Page(BaseModel, Generic[T]):
            items: list[T]
            after: "Page[T] | None" = None
        ITEMS = Page[Item]
        def names(): return ITEMS.model_validate({"items": [{"name": "a"}]}).items[0].name
        if __name__ == "__main__":
            from openlaunch.client.packing.callables import pack_callables
            pathlib.Path("out").write_bytes(pack_callables(lambda: None, lambda model: names))
        """
    run(write(tmp_path, {"script.py": script}), "script.py")
    with Worker((tmp_path / "out").read_bytes()) as worker:
        worker.ready()
        assert worker.value() == "a!"
