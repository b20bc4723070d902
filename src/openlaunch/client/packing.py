"""Turns functions, directories, requirement files and schemas into what a bundle is made of."""

import codecs
import json
import os
import re
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from openlaunch.client.code_files import collect
from openlaunch.client.folders import SKIPPED, Choice
from openlaunch.client.own_code import OwnModules
from openlaunch.client.pickler import pickled
from openlaunch.errors import BundleError
from openlaunch_worker.own_code import CHILD_CODE, CHILD_MAIN, FUNCTIONS, MANIFEST, Manifest, Restored

MAX_BUNDLE_BYTES = 1024**3
MAX_DEFLATED = 1 << 22
"""Larger files are mostly weights and images, which deflate slowly and hardly."""
_pickling = threading.RLock()
# A process is forked between two packings: in the child, nobody would end the one under way.
os.register_at_fork(
    before=_pickling.acquire, after_in_parent=_pickling.release, after_in_child=_pickling.release
)
_COMMENT = re.compile(r"(^|\s)#.*")
_LINE_END = re.compile(r"\r\n|\r|\n")
"""Of a requirements file: `splitlines` would also end lines at characters that comments have."""


def python_version() -> str:
    """Return the minor version of Python, such as 3.11: a pickle of code needs the same to be read."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pack_callables(
    load_model_fn: Callable[..., Any],
    load_predict_fn: Callable[..., Any],
    code_dir: str | Path | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> bytes:
    """Zip the two functions, pickled, with the user's own modules that they use; the same code gives the same bytes.

    `code_dir` is a folder that goes along; with an `include` alone, it is the current one.

    Raises:
        BundleError: one of them is not a function, or something that they use can't go along.
    """
    functions = {"load_model_fn": load_model_fn, "load_predict_fn": load_predict_fn}
    for name, function in functions.items():
        if not callable(function):
            raise BundleError(f"{name} is {function!r}, a function is needed")
    own = OwnModules()
    with _pickling:
        pickles = pickled(functions, own)
    if code_dir is None and include:
        code_dir = "."
    choice = Choice(_patterns("include", include), _patterns("exclude", exclude))
    code = collect(own.follow(pickles.named).values(), None if code_dir is None else Path(code_dir), choice)
    manifest = Manifest(code.path, tuple(map(_restored, pickles.restored)), pickles.texts, code.folder)
    document = json.dumps(manifest.to_json()).encode()
    made = {FUNCTIONS: pickles.functions, MANIFEST: document, f"{CHILD_MAIN}.py": CHILD_CODE}
    return _bounded(_zipped(code.files, made | code.bytecode))


def _patterns(name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(one, str) for one in given or ()):
        raise BundleError(f"{name} is {given!r}, a list of patterns such as ['*.json'] is needed")
    return tuple(given or ())


def _restored(name: str) -> Restored:
    module = sys.modules.get(name)
    return Restored(name, getattr(module, "__file__", None), getattr(module, "__package__", None))


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"the bundle has {len(data)} bytes, the limit is {MAX_BUNDLE_BYTES}: "
            "fetch large models in load_model_fn instead"
        )
    return data


def pack_directories(base_paths: Sequence[str | Path]) -> bytes:
    """Zip directories, each under its own name; the same files give the same bytes.

    Raises BundleError when a path is not a directory, two have the same name, or all is too large.
    """
    if not base_paths:
        raise BundleError("base_paths is empty: name at least one directory")
    files: dict[str, Path] = {}
    for base in base_paths:
        for name, path in _files_in(Path(base)):
            if name in files:
                raise BundleError(f"{files[name]} and {path} would both be {name} in the bundle")
            files[name] = path
    total = sum(path.stat().st_size for path in files.values())
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(f"the directories hold {total} bytes, the limit is {MAX_BUNDLE_BYTES}")
    return _zipped(files)


def _files_in(base: Path) -> Iterator[tuple[str, Path]]:
    if not base.is_dir():
        raise BundleError(f"the base path {str(base)!r} is not a directory (seen from {Path.cwd()})")
    root = base.resolve()
    folders = [root]
    while folders:
        for path in folders.pop().iterdir():
            if path.name in SKIPPED or path.suffix == ".pyc":
                continue
            if path.is_dir():
                if path.is_symlink():
                    raise BundleError(f"{path} is a link to a directory: name its target in base_paths")
                folders.append(path)
            elif path.is_file():
                yield path.relative_to(root.parent).as_posix(), path


def _zipped(files: dict[str, Path], made: dict[str, bytes] | None = None) -> bytes:
    buffer = BytesIO()
    made = made or {}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted({*files, *made}):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            data = made[name] if name in made else files[name].read_bytes()
            large = len(data) > MAX_DEFLATED
            archive.writestr(info, data, zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def find_in_zip(module_path: str, names: Iterable[str], what: str) -> str:
    """Find the dotted path of a function inside the zip.

    A path that is given from within a base directory is completed with that directory's name, where only one
    of them has such a module.

    Raises:
        BundleError: there is no such module.
    """
    module, dot, function = module_path.rpartition(".")
    if not dot or not module or not function.isidentifier():
        raise BundleError(
            f"{what} is {module_path!r}, a path such as my_module.my_file.my_function is needed"
        )
    known = set(names)
    if _has_module(module, known):
        return module_path
    tops = sorted({name.split("/", 1)[0] for name in known})
    inside = [top for top in tops if _has_module(f"{top}.{module}", known)]
    if len(inside) == 1:
        return f"{inside[0]}.{module_path}"
    raise BundleError(
        f"{what} is {module_path!r}, but there is no module {module!r} in the bundle; "
        f"a path begins with one of {', '.join(tops) or 'no directory'}"
    )


def _has_module(module: str, names: set[str]) -> bool:
    path = module.replace(".", "/")
    return f"{path}.py" in names or f"{path}/__init__.py" in names


def names_in_zip(data: bytes) -> list[str]:
    """List the names of a zip's files."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return archive.namelist()


def module_in_zip(data: bytes, module: str) -> bytes:
    """Read the source of a module that is in a zip."""
    path = module.replace(".", "/")
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = archive.namelist()
        return archive.read(f"{path}.py" if f"{path}.py" in names else f"{path}/__init__.py")


def read_requirements(path: str | Path) -> list[str]:
    """Read the requirements of a requirements.txt.

    Raises BundleError when it can't be read, or has an option or a local path in it, which can't go along.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BundleError(f"the requirements file {str(path)!r} can't be read: {error}") from error
    found = []
    for number, line in _joined_lines(_text_of(data, path)):
        requirement = _COMMENT.sub("", line).strip()
        if not requirement:
            continue
        if requirement.startswith(("-", ".", "/", "file:")):
            # What follows an option may hold a password.
            shown = requirement.split()[0].partition("=")[0] if requirement[0] == "-" else requirement
            raise BundleError(
                f"line {number} of {path} is {shown!r}: options, other files and local paths can't go "
                "along with a bundle; name the packages themselves"
            )
        if "\ufffd" in requirement:
            raise BundleError(
                f"line {number} of {path} has characters that are not UTF-8: save the file as UTF-8"
            )
        found.append(requirement)
    return found


def _text_of(data: bytes, path: str | Path) -> str:
    """Decode by the mark at the beginning, which editors on Windows write; what is not UTF-8 becomes U+FFFD."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise BundleError(f"the requirements file {str(path)!r} is not text in UTF-8: save it as UTF-8")
    return data.decode("utf-8-sig", "replace")


def _joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Give the lines with their numbers; one that ends with a backslash continues, unless it is a comment."""
    whole, first = "", 1
    lines = [*_LINE_END.split(text), ""]
    for number, line in enumerate(lines, 1):
        whole, first = (whole + line, first) if whole else (line, number)
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            whole = f"{whole[:-1]} "
        else:
            yield first, whole
            whole = ""


def read_app_config(app_config: dict[str, Any] | str | Path | None) -> dict[str, Any] | None:
    """Return the app_config itself, or the content of the JSON file that it names.

    Raises BundleError when the file can't be read, or does not hold an object.
    """
    if app_config is None or isinstance(app_config, dict):
        return app_config
    try:
        document = json.loads(Path(app_config).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"app_config {str(app_config)!r} can't be read as a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(f"app_config {str(app_config)!r} holds no JSON object")
    return document


def pack_schemas(request_schema: type[BaseModel] | None, response_schema: type[BaseModel] | None) -> bytes:
    """Make JSON Schemas of a bundle's input and output, with the models that they use beside them."""
    given = {"RequestSchema": request_schema, "ResponseSchema": response_schema}
    models = {name: model for name, model in given.items() if model is not None}
    if not models:
        return b"{}"
    for name, model in models.items():
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise BundleError(f"the {name} is {model!r}, a pydantic model class is needed")
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models.values())],
        ref_template="#/components/schemas/{model}",
    )
    document = dict(definitions.get("$defs", {}))
    for name, model in models.items():
        schema = references[model, "validation"]
        document[name] = document.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    return json.dumps(document, sort_keys=True).encode()
