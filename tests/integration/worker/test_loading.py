"""From a bundle's bytes to READY or LOAD_FAILED."""

import io
import os
import pickle
import stat
import sys
import zipfile

import cloudpickle
import pytest
from worker_driver import Worker, returning, zip_of

from openlaunch_worker.archives import FREE_UNPACKED, ArchiveError, unpack

ZIP = {
    "flavor": "zip_artifact",
    "app_config": {"factor": 3},
    "load_model_fn_module_path": "pack.model.load_model",
    "load_predict_fn_module_path": "pack.model.load_predict",
}
MODEL = """
from pack.helper import times
def load_model(config):
    return config["factor"]
def load_predict(config, model):
    return lambda x: [times(x, model), open("pack/data.txt").read(), config]
"""
FILES = {
    "pack/__init__.py": "",
    "pack/helper.py": "def times(a, b): return a * b",
    "pack/model.py": MODEL,
    "pack/data.txt": "some data",
}


def load_failure(bundle, flavor=None, **options):
    with Worker(bundle, flavor, **options) as worker:
        failure = worker.load_failure()
        assert worker.exit_code() == 3
        assert failure["reason"] in worker.log()
        assert "\n" not in failure["reason"]
        return failure


def test_hello_has_the_token_and_the_pid():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        assert worker.hello == {"token": "the-token-of-this-worker", "pid": worker.process.pid}


def test_ready_has_the_python_and_whether_it_generates():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        version = ".".join(map(str, sys.version_info[:3]))
        assert worker.greeting == {"python": version, "generator": False}


def test_the_model_is_given_to_load_predict_fn():
    bundle = {"load_model_fn": lambda: 5, "load_predict_fn": lambda model: lambda x: x * model}
    with Worker(bundle) as worker:
        worker.ready()
        assert worker.value(x=2) == 10


@pytest.mark.parametrize("config", [{"factor": 7}, {}])
def test_app_config_is_given_first_to_both(config):
    bundle = {
        "load_model_fn": lambda config: config.get("factor"),
        "load_predict_fn": lambda config, model: lambda: [config, model],
    }
    with Worker(bundle, {"app_config": config}) as worker:
        worker.ready()
        assert worker.value() == [config, config.get("factor")]


class Tripler:
    def __call__(self, x):
        return 3 * x


@pytest.mark.parametrize("config", [None, {"a": 1}])
@pytest.mark.parametrize(
    "bundle",
    [
        {"model": 3, "load_predict_fn": lambda *args: lambda x: args[-1] * x},
        lambda x: 3 * x,
        Tripler,
        Tripler(),
    ],
    ids=["model", "function", "class", "object"],
)
def test_the_first_launch_clients_bundles(by_value, bundle, config):
    with Worker(
        cloudpickle.dumps(bundle), {"flavor": "cloudpickle_artifact", "app_config": config}
    ) as worker:
        worker.ready()
        assert worker.value(x=7) == 21


def test_a_bundle_of_many_pieces():
    weights = os.urandom(5_000_000)
    bundle = {"load_model_fn": lambda: weights, "load_predict_fn": lambda model: lambda: len(model)}
    with Worker(bundle) as worker:
        worker.ready()
        assert worker.value() == 5_000_000


def test_a_frame_that_comes_while_the_bundle_loads_is_not_lost():
    bundle = {"load_model_fn": lambda: __import__("time").sleep(0.3), "load_predict_fn": lambda m: lambda: 1}
    with Worker(bundle) as worker:
        request_id = worker.request({"args": {}})
        worker.ready()
        assert worker.answer()[0] == request_id


def test_zip():
    with Worker(zip_of(FILES), ZIP) as worker:
        worker.ready()
        assert worker.value(x=2) == [6, "some data", {"factor": 3}]


def test_zip_without_app_config_is_given_none():
    files = {"m.py": "def a(config): return config\ndef b(config, model): return lambda: [config, model]"}
    flavor = {"load_model_fn_module_path": "m.a", "load_predict_fn_module_path": "m.b", "app_config": None}
    with Worker(zip_of(files), {**ZIP, **flavor}) as worker:
        worker.ready()
        assert worker.value() == [None, None]


# What can go wrong in the three steps.


def test_an_exception_in_load_model_fn():
    def load_model():
        raise OSError("no such\nweights")

    failure = load_failure({"load_model_fn": load_model, "load_predict_fn": None})
    assert failure["reason"] == "load_model_fn failed: OSError: no such weights"
    assert failure["traceback"].count("File ") == 1
    assert "in load_model" in failure["traceback"]


def test_an_exception_in_load_predict_fn():
    failure = load_failure({"load_model_fn": lambda: 0, "load_predict_fn": lambda model: 1 / model})
    assert failure["reason"] == "load_predict_fn failed: ZeroDivisionError: division by zero"


def test_system_exit_while_loading():
    failure = load_failure({"load_model_fn": lambda: sys.exit(9), "load_predict_fn": None})
    assert failure["reason"] == "load_model_fn failed: SystemExit: 9"


def test_a_missing_module_points_to_the_requirements():
    def load_model():
        import no_such_module  # noqa: F401

    reason = load_failure({"load_model_fn": load_model, "load_predict_fn": None})["reason"]
    assert "add the package that has 'no_such_module' to the bundle's `requirements`" in reason


def test_a_missing_module_in_the_pickle_points_to_the_requirements():
    pickled = b"cno_such_module\nfunction\n."
    reason = load_failure(pickled)["reason"]
    assert reason.startswith("unpickling the bundle failed: ModuleNotFoundError")
    assert "`requirements`" in reason


def test_bytes_that_are_no_pickle():
    reason = load_failure(b"not a pickle")["reason"]
    assert reason == "unpickling the bundle failed: _pickle.UnpicklingError: invalid load key, 'n'."


def test_a_pickle_without_the_functions():
    reason = load_failure(pickle.dumps({"load_model_fn": None}))["reason"]
    assert "unpickling the bundle failed: KeyError: 'load_predict_fn'" in reason


def test_predict_that_is_no_function():
    reason = load_failure({"load_model_fn": lambda: 0, "load_predict_fn": lambda model: [1]})["reason"]
    assert "load_predict_fn returned an object of type list, a function is needed" in reason


def test_a_bundle_of_another_python_is_refused_before_it_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "unpickled"), "w")

    failure = load_failure(pickle.dumps(Trap()), {"python_version": "3.8"})
    assert "packed with Python 3.8, and this worker runs" in failure["reason"]
    assert failure["traceback"] is None
    assert not (tmp_path / "unpickled").exists()


def test_a_code_object_of_another_python_says_so():
    # What a function pickled by 3.10 does under 3.11: `code` takes other arguments.
    pickled = b"ctypes\nCodeType\n(I1\nI2\ntR."
    assert "packed with another Python" in load_failure(pickled)["reason"]


def test_a_newer_pickle_protocol_says_so():
    assert "newer Python" in load_failure(b"\x80\xff.")["reason"]


def test_an_unknown_flavor():
    assert "'runnable_image'" in load_failure(b"", {"flavor": "runnable_image"})["reason"]


# What can go wrong with a zip.


def test_bytes_that_are_no_zip():
    assert "not a zip" in load_failure(b"nonsense", ZIP)["reason"]


def test_a_module_path_without_a_dot():
    reason = load_failure(zip_of(FILES), {**ZIP, "load_model_fn_module_path": "load"})["reason"]
    assert "load_model_fn_module_path is 'load', a dotted path such as module.function is needed" in reason


def test_a_module_without_the_function():
    reason = load_failure(zip_of(FILES), {**ZIP, "load_model_fn_module_path": "pack.model.nothing"})["reason"]
    assert "the module pack.model has no 'nothing'" in reason


def test_a_module_that_can_not_be_imported():
    failure = load_failure(zip_of({**FILES, "pack/model.py": "import no_such_module"}), ZIP)
    assert failure["reason"].startswith("importing pack.model.load_model failed: ModuleNotFoundError")
    assert "importlib" not in failure["traceback"]
    assert "pack/model.py" in failure["traceback"]


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_a_member_outside_of_the_bundle_is_refused(name):
    reason = load_failure(zip_of({**FILES, name: ""}), ZIP)["reason"]
    assert "lies outside of the bundle" in reason


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="'link' is a link"):
        unpack(buffer, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), (".",)])
def test_names_that_can_not_be_written_together_are_said(names, tmp_path):
    with pytest.raises(ArchiveError, match="names that don't go together, or an empty one"):
        unpack(io.BytesIO(zip_of(dict.fromkeys(names, "x"))), tmp_path)


def test_what_is_no_file_in_a_zip_is_written_as_one(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFREG | stat.S_ISUID):
            member = zipfile.ZipInfo(str(kind))
            member.external_attr = (kind | 0o777) << 16
            archive.writestr(member, "x")
    unpack(buffer, tmp_path)
    modes = [path.lstat().st_mode for path in tmp_path.iterdir()]
    assert [(stat.S_ISREG(mode), mode & stat.S_ISUID) for mode in modes] == [(True, 0)] * 4


def test_too_many_bytes_are_refused(tmp_path):
    with pytest.raises(ArchiveError, match="unpacks to 101 bytes, at most 100 are allowed"):
        unpack(io.BytesIO(zip_of({"a": "x" * 101})), tmp_path, max_bytes=100)
    assert list(tmp_path.iterdir()) == []


def test_a_small_zip_of_very_much_is_refused(tmp_path):
    bomb = io.BytesIO(zip_of({"a": "x" * 100}))
    data = bytearray(bomb.getvalue())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (FREE_UNPACKED + 1).to_bytes(4, "little")
    with pytest.raises(ArchiveError, match=f"unpacks to {FREE_UNPACKED + 1} bytes"):
        unpack(io.BytesIO(bytes(data)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_the_members_say_that_they_take_does_not_count(tmp_path):
    data = bytearray(zip_of(dict.fromkeys("abc", "x" * 100)))
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 20 : at + 24] = (FREE_UNPACKED).to_bytes(4, "little")
        data[at + 24 : at + 28] = (FREE_UNPACKED).to_bytes(4, "little")
    with pytest.raises(ArchiveError, match=f"unpacks to {3 * FREE_UNPACKED} bytes, at most {FREE_UNPACKED} "):
        unpack(io.BytesIO(bytes(data)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_many_members_are_refused(tmp_path):
    with pytest.raises(ArchiveError, match="has 3 members, at most 2 are allowed"):
        unpack(io.BytesIO(zip_of({"a": "", "b": "", "c": ""})), tmp_path, max_members=2)


def test_a_member_with_a_false_size_gives_no_more_than_it_says(tmp_path):
    data = bytearray(zip_of({"a": "x" * 1000}))
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    with pytest.raises(ArchiveError):
        unpack(io.BytesIO(bytes(data)), tmp_path, max_bytes=100)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100
