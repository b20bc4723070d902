"""Which files go along with functions."""

import importlib
import py_compile
import sys
import threading
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from io import BytesIO

import pytest

from openlaunch.client.packing import code_files, folders, unpacked_zips
from openlaunch.client.packing.callables import pack_callables
from openlaunch.client.packing.folders import Choice, files_below
from openlaunch.client.packing.local_packages import local_packages, notes_about
from openlaunch.client.packing.own_code import OwnModules, imports_of, source_of
from openlaunch.errors import BundleError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes files into a folder of `sys.path`; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__in__", "/").replace("__dot__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def packed(function, **folder):
    data = pack_callables(lambda: None, lambda model: function, **folder)
    return {
        name for name in zipfile.ZipFile(BytesIO(data)).namelist() if name.startswith(("modules/", "code/"))
    }


def below(folder, *patterns, **choice):
    found = files_below(folder, Choice(tuple(choice.get("include", ())), tuple(patterns)))
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ("", ["a.py", "data/b.bin", "data/keep.bin", "deep/data/c.txt", "notes.txt"]),
        ("*.bin", ["a.py", "deep/data/c.txt", "notes.txt"]),
        ("/data/", ["a.py", "deep/data/c.txt", "notes.txt"]),
        ("data/", ["a.py", "notes.txt"]),
        ("# data\n*.txt\n!notes.txt\n", ["a.py", "data/b.bin", "data/keep.bin", "notes.txt"]),
        ("data/*\n!data/keep.bin", ["a.py", "data/keep.bin", "deep/data/c.txt", "notes.txt"]),
        ("deep/**/c.txt", ["a.py", "data/b.bin", "data/keep.bin", "notes.txt"]),
        ("**/data/[bc].*", ["a.py", "data/keep.bin", "notes.txt"]),
        ("?.py", ["data/b.bin", "data/keep.bin", "deep/data/c.txt", "notes.txt"]),
        ("deep/**", ["a.py", "data/b.bin", "data/keep.bin", "notes.txt"]),
    ],
)
def test_what_git_ignores_stays_behind(tmp_path, ignored, left):
    for name in ("a.py", "data/b.bin", "data/keep.bin", "deep/data/c.txt", "notes.txt", "__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert below(tmp_path, *ignored.splitlines()) == left
    (tmp_path / ".gitignore").write_text(ignored)
    assert below(tmp_path) == [".gitignore", *left]
    assert below(tmp_path, include=["*.bin"])[-1:] != ["notes.txt"]


def test_a_repositorys_gitignore_is_for_the_folders_in_it(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / ".gitignore").write_text("*.bin")
    for name in ("a.bin", "b.txt"):
        (tmp_path / "inner" / name).write_text("")
    assert below(tmp_path / "inner") == ["b.txt"]
    assert below(tmp_path / "inner", include=["*.bin"]) == ["a.bin"]


def test_a_module_of_which_git_ignores_the_file_goes_along_when_it_is_imported(project):
    project(
        made__in____init____dot__py="from made import _version",
        made__in___version__dot__py="",
        __dot__gitignore="_version.py",
    )
    import made

    assert "modules/made/_version.py" in packed(lambda: made)
    assert "modules/made/_version.py" not in packed(lambda: made, exclude=["_version.py"])


def test_imports_are_found_wherever_they_are(project):
    project(
        many__in____init____dot__py="",
        many__in__a__dot__py="""
import os.path, one
from typing import TYPE_CHECKING
from . import b
from .c import d as e
if TYPE_CHECKING:
    import types_only
try:
    import fast
except ImportError:
    import slow
def f():
    from .. import above
    import late
if __name__ == "__main__":
    import script_only
""",
    )
    found = {one.name: one.needed for one in imports_of(source_of("many.a"))}
    needed = {"os.path", "one", "typing", "many", "many.b", "many.c", "many.c.d", "typing.TYPE_CHECKING"}
    assert {name for name, is_needed in found.items() if is_needed} == needed
    assert {name for name, is_needed in found.items() if not is_needed} == {"fast", "slow", "late"}


def test_a_module_that_can_not_be_imported_here_goes_along(project):
    project(on_the_server__dot__py="import torch_of_the_server\nimport its_helper", its_helper__dot__py="")

    def load():
        import on_the_server

        return on_the_server

    assert packed(load) >= {"modules/on_the_server.py", "modules/its_helper.py"}
    assert "on_the_server" not in sys.modules


def test_modules_that_are_no_source_files_go_along(project):
    home = project(from_source__dot__py="NAME = 'from source'")
    py_compile.compile(str(home / "from_source.py"), cfile=str(home / "compiled.pyc"))
    fast = f"fast{EXTENSION_SUFFIXES[0]}"
    (home / fast).write_bytes(b"")

    def load():
        import compiled
        import fast

        return compiled, fast

    assert packed(load) == {"modules/compiled.pyc", f"modules/{fast}"}


BACKENDS = {"small": "backends_in_a_table.Small"}


def named_by_texts(name):
    importlib.import_module("named_by_itself")
    importlib.import_module(BACKENDS["small"])
    importlib.import_module(f"plugins_by_name.{name}")


def test_modules_that_are_imported_by_their_names_go_along(project, caplog):
    project(
        named_by_itself__dot__py="import registry_of_names",
        registry_of_names__dot__py="def load(name): __import__('inner_by_name.' + name)",
        inner_by_name__in____init____dot__py="",
        inner_by_name__in__one__dot__py="import used_by_one",
        used_by_one__dot__py="",
        backends_in_a_table__dot__py="",
        plugins_by_name__in____init____dot__py="",
        plugins_by_name__in__deep__in____init____dot__py="import used_by_deep",
        used_by_deep__dot__py="",
    )
    found = {name for name in packed(named_by_texts) if name.endswith(".py")}
    assert found == {
        f"modules/{name}.py"
        for name in (
            *("named_by_itself", "registry_of_names", "inner_by_name/__init__", "inner_by_name/one"),
            *("used_by_one", "backends_in_a_table", "plugins_by_name/__init__"),
            *("plugins_by_name/deep/__init__", "used_by_deep"),
        )
    }
    assert not caplog.records


def test_a_module_that_is_imported_under_a_name_made_there_is_named(project, caplog):
    project(
        loader_of_any__dot__py="import importlib\ndef load(name):\n    return importlib.import_module(name)"
    )
    import loader_of_any

    assert "modules/loader_of_any.py" in packed(loader_of_any.load)
    assert "loader_of_any.py, line 3, imports a module under a name that is made there" in caplog.text


def late_imports():
    import zipped_package.helper

    return zipped_package.helper


def test_modules_in_a_zip_go_along_as_files(project, monkeypatch):
    """A zipapp is one, and has its own modules in it, which it may import late."""
    home = project()
    with zipfile.ZipFile(home / "library.zip", "w") as archive:
        archive.writestr("zipped.py", "K = 2\ndef times(x):\n    return K * x\n")
        archive.writestr("zipped_package/__init__.py", "")
        archive.writestr("zipped_package/helper.py", "import zipped")
        archive.writestr("zipped_package/data.txt", "")
        archive.writestr("zipped_script.py", "import openlaunch\ndef f(): pass")
    monkeypatch.syspath_prepend(home / "library.zip")
    import zipped
    import zipped_script

    assert packed(zipped.times) == {"modules/zipped.py"}
    package = {f"modules/zipped_package/{name}" for name in ("__init__.py", "helper.py", "data.txt")}
    assert packed(late_imports) == {"modules/zipped.py", *package}
    assert packed(zipped_script.f) == set()


def test_modules_in_a_large_zip_go_along_with_what_is_used_of_them(project, monkeypatch, caplog):
    monkeypatch.setattr(unpacked_zips, "MAX_UNPACKED", 20)
    home = project()
    with zipfile.ZipFile(home / "large.zip", "w") as archive:
        archive.writestr("in_large.py", "K = 2\ndef times(x):\n    return K * x\n")
    monkeypatch.syspath_prepend(home / "large.zip")
    import in_large

    assert OwnModules().is_by_value("in_large")
    assert packed(in_large.times) == set()
    assert "large.zip has more than 20 bytes: what its modules import late" in caplog.text


def late_import_of_a_large_zip():
    import late_in_large

    return late_in_large


def test_modules_in_a_zip_that_is_large_by_its_data_go_along_without_that(project, monkeypatch, caplog):
    monkeypatch.setattr(unpacked_zips, "MAX_UNPACKED", 1000)
    home = project()
    with zipfile.ZipFile(home / "heavy.zip", "w") as archive:
        archive.writestr("late_in_large.py", "K = 2")
        archive.writestr("weights.bin", "w" * 2000)
    monkeypatch.syspath_prepend(home / "heavy.zip")
    assert packed(late_import_of_a_large_zip) == {"modules/late_in_large.py"}
    assert "heavy.zip has more than 1000 bytes: what is not code in it does not go along" in caplog.text


@pytest.mark.parametrize("text", ["import openlaunch", "import pytest", "import near", "from near import x"])
def test_a_module_that_deploys_is_a_script(project, text):
    project(deploying__dot__py=text, near__dot__py="import openlaunch.testing")
    assert OwnModules().is_by_value("deploying")


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import openlaunch",
        "try:\n    import openlaunch\nexcept ImportError:\n    pass",
        "if __name__ == '__main__':\n    import openlaunch",
        "import json, numpy, near",
    ],
)
def test_another_module_is_imported(project, text):
    project(using__dot__py=text, near__dot__py="")
    assert not OwnModules().is_by_value("using")


def test_too_much_is_refused_with_what_is_large(project, monkeypatch):
    monkeypatch.setattr(code_files, "MAX_MODULES_BYTES", 1 << 20)
    project(
        heavy__in____init____dot__py="",
        heavy__in__weights__dot__bin="w" * (3 << 20),
        heavy__in__b__dot__txt="",
    )
    import heavy

    with pytest.raises(
        BundleError, match=r"3\.0 MiB in 3 files.* largest are heavy/weights\.bin \(3\.0 MiB\)"
    ):
        packed(lambda: heavy)
    assert "modules/heavy/b.txt" in packed(lambda: heavy, exclude=["*.bin"])


def test_a_file_that_changed_after_its_import_is_refused(project):
    folder = project(edited__dot__py="def f(x):\n    return x\n")
    import edited

    assert "modules/edited.py" in packed(edited.f)
    (folder / "edited.py").write_text("# new\ndef f(x):\n    return x + 1\n")
    with pytest.raises(
        BundleError, match=r"edited\.py was changed after edited was imported: import it again"
    ):
        packed(edited.f)
    importlib.invalidate_caches()
    importlib.reload(edited)
    assert "modules/edited.py" in packed(edited.f)


@pytest.mark.parametrize("given", ["*.json", [1]])
def test_patterns_are_a_list_of_texts(given):
    with pytest.raises(BundleError, match=r"include is .* a list of patterns"):
        packed(lambda: None, include=given)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(BundleError, match="code_dir is '/nowhere', which is not a folder"):
        packed(lambda: None, code_dir="/nowhere")


def test_packages_installed_from_a_folder_are_found_with_what_is_noted_about_them(tmp_path):
    for name, url in (("my_pkg-1.0", "file:///src"), ("torch-2.0", None), ("vcs-1.0", "https://host/x.git")):
        about = tmp_path / f"{name}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Version: 1.0")
        (about / "RECORD").write_text("other_name/__init__.py,,\n__pycache__/x.pyc,,\nsingle.py,,\n")
        if url is not None:
            (about / "direct_url.json").write_text(f'{{"url": "{url}", "dir_info": {{"editable": true}}}}')
    [package] = local_packages([tmp_path])
    assert package.modules >= {"my_pkg", "other_name", "single"}
    assert set(notes_about(["other_name.sub"], [tmp_path])) == {"my_pkg-1.0.dist-info/METADATA"}
    assert notes_about(["else"], [tmp_path]) == {}


def test_a_folder_that_packages_were_installed_into_has_none_of_the_users(project):
    folder = project(vendored__dot__py="")
    assert source_of("vendored") is not None
    (folder / "sub" / "some-1.0.dist-info").mkdir(parents=True)
    (folder / "sub" / "bought.py").write_text("")
    sys.path.insert(0, str(folder / "sub"))
    try:
        assert source_of("bought") is None
    finally:
        sys.path.remove(str(folder / "sub"))


class Proxy:
    """Stands for what is not there yet, as those of web frameworks do."""

    @property
    def __class__(self):
        raise RuntimeError("nothing is bound")


PROXY = Proxy()


def test_objects_that_refuse_to_be_looked_at_are_left_alone(project):
    project(with_proxy__dot__py="registry = {}")
    import with_proxy

    with_proxy.proxy = PROXY
    with_proxy.registry["proxy"] = PROXY
    assert "modules/with_proxy.py" in packed(lambda: with_proxy)


class Holder:
    def __init__(self):
        self.parts = {"lock": [threading.Lock()]}


HOLDER = Holder()


def uses_holder():
    return HOLDER


def test_what_can_not_be_pickled_is_named_with_its_module_variable_and_type():
    with pytest.raises(BundleError) as caught:
        packed(lambda: uses_holder())
    assert f"the global 'HOLDER' of {__name__}, of type {__name__}.Holder" in str(caught.value)
    assert "'parts', of type dict → the value of 'lock', of type list" in str(caught.value)
    assert "of type _thread.lock. " in str(caught.value)


def test_what_a_script_sets_in_an_object_and_can_not_go_along_is_named(project, caplog):
    project(
        with_state__dot__py="class State: lock = None\nstate = State()\ndef held(): return state.lock",
        sets_state__dot__py="import threading\nfrom with_state import state\nstate.lock = threading.Lock()",
    )
    importlib.import_module("sets_state")
    packed(importlib.import_module("with_state").held)
    assert "with_state.state.lock does not go along as it is set here: a lock can't" in caplog.text


def test_many_threads_pack_at_once(project):
    project(together__dot__py="def f(): return 1")
    import together

    results = []

    def pack():
        results.append(packed(together.f))

    threads = [threading.Thread(target=pack) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(200):
        sys.modules[f"made_meanwhile_{number}"] = sys
    for thread in threads:
        thread.join()
    for number in range(200):
        del sys.modules[f"made_meanwhile_{number}"]
    assert len(results) == 8


def test_files_with_secrets_stay_behind_unless_they_are_named(project):
    project(
        sp_code__dot__py="def f():\n    return 1\n",
        __dot__env="K=1",
        sp_conf__in____dot__env__dot__prod="K=1",
        ca__dot__pem="x",
        id_rsa="x",
        data__dot__txt="x",
    )
    import sp_code

    everything = {"code/sp_code.py", "code/data.txt"}
    folder = project()
    assert packed(sp_code.f, code_dir=folder) - {"modules/sp_code.py"} >= everything
    secrets = {"code/.env", "code/sp_conf/.env.prod", "code/ca.pem", "code/id_rsa"}
    for include in ([], ["*"], ["sp_conf/"]):
        assert not packed(sp_code.f, code_dir=folder, include=include) & secrets
    named = packed(sp_code.f, code_dir=folder, include=["*.pem", ".env*"])
    assert named & secrets == secrets - {"code/id_rsa"}


def test_folders_that_link_to_each_other_are_not_walked_for_ever(tmp_path, monkeypatch):
    """There are 13,699 ways through seven of them, and each more has many times as many."""
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        for other in set("abcdefgh") - {name}:
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    monkeypatch.setattr(folders, "MAX_ENTRIES", 1000)
    with pytest.raises(BundleError, match="more than 1,000 files and folders to look at"):
        list(files_below(tmp_path, Choice()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file that nobody can read")
def test_a_file_that_can_not_be_read_is_named(project):
    folder = project(nr_code__dot__py="def f():\n    return 1\n")
    (folder / "data.bin").symlink_to("/proc/self/mem")
    import nr_code

    with pytest.raises(BundleError, match=r"data\.bin can't be read: .+; make it readable, or leave it out"):
        packed(nr_code.f, code_dir=folder)


def test_a_folder_that_can_not_be_read_is_named(project, monkeypatch):
    folder = project(nf_code__dot__py="def f():\n    return 1\n")
    refusal = PermissionError(13, "Permission denied", str(folder))
    monkeypatch.setattr("os.scandir", lambda _: (_ for _ in ()).throw(refusal))
    import nf_code

    with pytest.raises(BundleError, match=f"{folder} can't be read: Permission denied"):
        packed(nf_code.f, code_dir=folder)
