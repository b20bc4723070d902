import json
import math
import pickle
import random
import re
import subprocess
import sys
import xml.dom.minidom
import zipfile
from decimal import Decimal
from io import BytesIO

import cloudpickle
import pytest
from pydantic import BaseModel, Field

from openlaunch import EndpointRequest, LaunchClient, ModelEndpoint, SyncEndpoint
from openlaunch.client.operations.bundles import flavor_of_callables, framework
from openlaunch.client.operations.deploy import loaders
from openlaunch.client.packing import zips
from openlaunch.client.packing.callables import pack_callables
from openlaunch.client.packing.documents import pack_schemas, read_app_config
from openlaunch.client.packing.own_code import source_of
from openlaunch.client.packing.requirements import read_requirements
from openlaunch.client.packing.zips import find_in_zip, pack_directories
from openlaunch.errors import BundleError


def load_model():
    return 20


def load_predict(model):
    def predict(x):
        return model + helper(x)

    return predict


def helper(x):
    return x + 1


def in_a_bare_process(data, code, folder):
    """Run code where this module can't be imported, with the functions as `bundle`; gives what it prints."""
    (folder / "bundle").mkdir()
    (folder / "data").write_bytes(data)
    script = (
        "import pathlib, sys; from openlaunch_worker.own_code import load_functions\n"
        f"bundle = load_functions(open('data', 'rb'), pathlib.Path('bundle').resolve())\n{code}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, cwd=folder, timeout=30
    )
    return done.stdout.decode().strip()


def test_functions_of_a_local_module_run_where_that_is_not(tmp_path):
    data = pack_callables(load_model, load_predict)
    code = "print(bundle['load_predict_fn'](bundle['load_model_fn']())(1))"
    assert in_a_bare_process(data, code, tmp_path) == "22"


def test_modules_of_packages_that_code_within_a_function_uses_are_imported(tmp_path):
    def load_predict(model):
        return lambda x: [xml.dom.minidom.parseString(each).documentElement.tagName for each in x]

    data = pack_callables(load_model, load_predict)
    code = "print(bundle['load_predict_fn'](0)(['<a/>']))"
    assert in_a_bare_process(data, code, tmp_path) == "['a']"


def test_helpers_in_other_local_modules_go_along(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "my_helpers.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(tmp_path / "home")
    import my_helpers

    data = pack_callables(lambda: None, lambda model: lambda x: my_helpers.triple(x))
    assert in_a_bare_process(data, "print(bundle['load_predict_fn'](None)(x=2))", tmp_path) == "6"


def test_what_is_registered_for_pickling_stays_as_it_was():
    before = set(cloudpickle.list_registry_pickle_by_value())
    pack_callables(load_model, load_predict)
    assert set(cloudpickle.list_registry_pickle_by_value()) == before


@pytest.mark.parametrize("name", ["json", "pydantic", "cloudpickle", "pytest", "openlaunch.errors"])
def test_installed_packages_and_the_standard_library_are_not_the_users(name):
    assert source_of(name) is None


def test_deployed_functions_need_nothing_of_the_client(tmp_path):
    model_fn, predict_fn = loaders(lambda model, x: model + x, lambda: 40)
    data = pack_callables(model_fn, predict_fn)
    code = (
        "print(bundle['load_predict_fn'](bundle['load_model_fn']())(x=2), "
        "[m for m in sys.modules if m.startswith('openlaunch.')])"
    )
    assert in_a_bare_process(data, code, tmp_path) == "42 []"


def test_a_deployed_function_with_a_config_gets_the_model():
    model_fn, predict_fn = loaders(lambda model, x: model + x, lambda config: config["start"])
    config = {"start": 5}
    assert predict_fn(config, model_fn(config))(x=1) == 6


def test_what_can_not_be_pickled_is_refused_with_advice():
    import threading

    lock = threading.Lock()
    with pytest.raises(BundleError, match=r"can't be pickled: .*lock.* in load_model_fn"):
        pack_callables(lambda: lock, load_predict)


def test_a_client_that_a_function_uses_is_named_with_what_to_use():
    endpoint = SyncEndpoint(ModelEndpoint(name="other"), LaunchClient("key", "http://127.0.0.1:9"))

    def uses_another():
        return endpoint.predict(EndpointRequest())

    words = r"which can't go along: the function .*uses_another → the variable 'endpoint' of the enclosing"
    with pytest.raises(BundleError, match=words) as raised:
        pack_callables(*loaders(uses_another, None))
    assert 'openlaunch.endpoint("NAME") calls another' in str(raised.value)
    with pytest.raises(TypeError, match="Make a LaunchClient where it is used"):
        pickle.dumps(endpoint)


@pytest.mark.parametrize("given", ["numpy", [1]])
def test_requirements_are_a_list(given):
    with pytest.raises(BundleError, match=r"requirements is .*, a list such as \['numpy>=2'"):
        flavor_of_callables(load_predict, load_model, given, {})


def test_what_is_no_function_is_refused():
    with pytest.raises(BundleError, match="load_model_fn is 3"):
        pack_callables(3, load_predict)


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "my_model"
    (package / "sub" / "__pycache__").mkdir(parents=True)
    (package / ".git").mkdir()
    (package / ".git" / "config").write_text("x")
    (package / "sub" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (package / "__init__.py").write_text("")
    (package / "sub" / "load.py").write_text("def f(config):\n    return 1\n")
    (package / "weights.bin").write_bytes(b"w" * 1000)
    return package


def names(data):
    return zipfile.ZipFile(BytesIO(data)).namelist()


def test_directories_are_zipped_under_their_own_names(project):
    data = pack_directories([project])
    assert names(data) == ["my_model/__init__.py", "my_model/sub/load.py", "my_model/weights.bin"]


def test_base_paths_are_seen_from_the_current_directory(project, monkeypatch):
    monkeypatch.chdir(project)
    assert names(pack_directories(["."]))[0] == "my_model/__init__.py"


def test_the_same_files_give_the_same_bytes(project):
    first = pack_directories([project])
    for path in project.rglob("*.py"):
        path.touch()
    assert pack_directories([project]) == first


def test_a_base_path_that_is_no_directory_is_named(tmp_path):
    with pytest.raises(BundleError, match="'/nowhere' is not a directory"):
        pack_directories(["/nowhere"])


def test_two_directories_of_one_name_are_refused(project, tmp_path):
    other = tmp_path / "elsewhere" / "my_model"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    with pytest.raises(BundleError, match=r"would both be my_model/__init__\.py"):
        pack_directories([project, other])


def test_a_class_may_say_that_its_module_is_something_else():
    class Strange:
        __module__ = property(lambda self: "elsewhere")

    assert pack_callables(lambda: Strange, load_predict)


TABLE = random.Random(1).randbytes(200_000)


def uses_a_table():
    return len(TABLE)


def test_a_bundle_that_is_too_large_names_what_is_large(monkeypatch):
    monkeypatch.setattr(zips, "MAX_BUNDLE_BYTES", 100_000)
    table = TABLE[::-1]
    words = r"the most are the variable 'table' of the enclosing function .*test_a_bundle.* \(0\.2 MiB\)"
    with pytest.raises(BundleError, match=words):
        pack_callables(*loaders(lambda: len(table), None))
    monkeypatch.setattr(uses_a_table, "__module__", "__main__")
    with pytest.raises(BundleError, match=r"the most are the global 'TABLE' of __main__ \(0\.2 MiB\)"):
        pack_callables(*loaders(uses_a_table, None))


def test_too_large_a_bundle_is_refused(project, monkeypatch):
    monkeypatch.setattr(zips, "MAX_BUNDLE_BYTES", 500)
    with pytest.raises(BundleError, match="the limit is 500"):
        pack_directories([project])


def test_a_link_to_a_directory_is_refused(project, tmp_path):
    (project / "data").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="is a link to a directory"):
        pack_directories([project])


ZIP_NAMES = ["my_model/__init__.py", "my_model/sub/load.py", "other/predict.py"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("my_model.sub.load.f", "my_model.sub.load.f"),
        ("my_model.f", "my_model.f"),
        ("predict.f", "other.predict.f"),
    ],
)
def test_functions_are_found_in_the_zip(given, found):
    assert find_in_zip(given, ZIP_NAMES, "load_predict_fn_module_path") == found


@pytest.mark.parametrize("given", ["nowhere.f", "f", "my_model.", "my_model.sub.f"])
def test_a_module_that_is_not_there_is_named(given):
    with pytest.raises(BundleError, match=f"load_predict_fn_module_path is '{given}'"):
        find_in_zip(given, ZIP_NAMES, "load_predict_fn_module_path")


def test_requirements_are_read(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# all\nnumpy>=2  # arrays\n\npandas \\\n  ==2.2 ; python_version > '3.10'\n")
    assert read_requirements(path) == ["numpy>=2", "pandas    ==2.2 ; python_version > '3.10'"]


NUMPY = ["numpy>=2", "idna==3.7"]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("numpy>=2\r\nidna==3.7\r\n".encode("utf-16"), NUMPY),
        ("numpy>=2\nidna==3.7".encode("utf-8-sig"), NUMPY),
        (b"numpy>=2\t# caf\xe9 \x85 and more\ridna==3.7", NUMPY),
        ("numpy>=2 # a\u2028b\x0cc\nidna==3.7".encode(), NUMPY),
        (b"# only \\\nidna @ https://h/x.whl#sha256=ab", ["idna @ https://h/x.whl#sha256=ab"]),
    ],
)
def test_requirements_files_of_every_editor_are_read(tmp_path, data, found):
    path = tmp_path / "requirements.txt"
    path.write_bytes(data)
    assert read_requirements(path) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"numpy\ncaf\xe9\n", r"line 2 of .*requirements\.txt has characters that are not UTF-8"),
        ("numpy".encode("utf-16-le"), r"requirements\.txt' is not text in UTF-8"),
        (b"--index-url=https://me:S3CRET@h", r"line 1 of .* is '--index-url': options"),
    ],
)
def test_requirements_files_that_can_not_be_read_are_named(tmp_path, data, message):
    path = tmp_path / "requirements.txt"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=message):
        read_requirements(path)


@pytest.mark.parametrize("line", ["-r other.txt", "-e .", "--index-url https://h", "./wheels/a.whl"])
def test_requirements_that_can_not_go_along_are_named(line, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(f"numpy\n{line}\n")
    with pytest.raises(BundleError, match=r"line 2 of .*requirements\.txt is "):
        read_requirements(path)


def test_a_config_may_be_a_json_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"mode": "fast"}')
    assert read_app_config(str(path)) == {"mode": "fast"}
    assert read_app_config({"mode": "slow"}) == {"mode": "slow"}
    path.write_text("[1]")
    with pytest.raises(BundleError, match="holds no JSON object"):
        read_app_config(path)


class Part(BaseModel):
    size: int


class Input(BaseModel):
    parts: list[Part]


class Output(BaseModel):
    total: int


def test_schemas_have_the_models_they_use_beside_them():
    import json

    document = json.loads(pack_schemas(Input, Output))
    assert document["RequestSchema"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/Part"}
    assert document["Part"]["required"] == ["size"]
    assert document["ResponseSchema"]["properties"]["total"] == {"title": "Total", "type": "integer"}


def test_schemas_have_the_defaults_that_json_has():
    class Options(BaseModel):
        tags: list[str] = Field(default_factory=list)
        names: dict[str, str] = Field(default_factory=dict)
        most: float = math.inf
        raw: bytes = b"\xff"
        amount: Decimal = Decimal("1.5")
        counts: dict[int, str] = {}

    fields = json.loads(pack_schemas(Options, None))["RequestSchema"]["properties"]
    assert {name: part["default"] for name, part in fields.items() if "default" in part} == {
        "tags": [],
        "names": {},
        "amount": "1.5",
        "counts": {},
    }
    amount, counts = fields["amount"]["anyOf"][1]["pattern"], fields["counts"]["propertyNames"]["pattern"]
    for text in ("1", "-1.5", ".5", "1.", "1e-5", " 7 ", "1_000"):
        assert re.search(amount, text)
        assert Decimal(text) is not None
    assert not any(re.search(amount, text) for text in ("", "x", ".", "NaN", "1.2.3", "--1", "e5"))
    assert all(re.search(counts, text) for text in ("1", "-1", "1.0"))
    assert not any(re.search(counts, text) for text in ("", "a", "1.5", "1a"))


def test_without_schemas_there_are_none():
    assert pack_schemas(None, None) == b"{}"


def test_frameworks_are_recorded_one_at_a_time():
    assert framework({"pytorch_image_tag": "2.1"})["pytorch_image_tag"] == "2.1"
    assert (
        framework({"custom_base_image_repository": "repo", "custom_base_image_tag": "tag"})[
            "image_repository"
        ]
        == "repo"
    )
    with pytest.raises(ValueError, match="pytorch_image_tag and tensorflow_version are given"):
        framework({"pytorch_image_tag": "1", "tensorflow_version": "2"})
    with pytest.raises(ValueError, match="give both or neither"):
        framework({"custom_base_image_repository": "repo"})


PACKS_IN_A_CHILD = """
import os, threading, time
from openlaunch.client.packing.callables import pack_callables

packing = threading.Event()

class Slow:
    def __reduce__(self):
        packing.set()
        time.sleep(0.3)
        return (str, ())

def slow(x, value=Slow()):
    return x

def quick(x):
    return x

if __name__ == "__main__":
    threading.Thread(target=pack_callables, args=(quick, slow)).start()
    packing.wait()
    if os.fork() == 0:
        pack_callables(quick, quick)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_process_that_is_forked_while_another_thread_packs_can_pack(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PACKS_IN_A_CHILD)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "7\n", done.stderr


def test_a_folder_of_too_many_files_is_refused_while_it_is_looked_through(project, monkeypatch):
    monkeypatch.setattr(zips, "MAX_ENTRIES", 1)
    with pytest.raises(BundleError, match="more than 1 files"):
        pack_directories([project])
