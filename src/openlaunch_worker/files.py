"""What is sent as bytes: files in, files out, and what says of an array which one is taken."""

import binascii
import importlib
import mimetypes
import re
import shutil
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

OCTETS: Final = "application/octet-stream"
NPY: Final = "application/x-npy"
ARROW: Final = "application/vnd.apache.arrow.stream"
PARTS: Final = "application/vnd.openlaunch.parts"
"""The type of a body as `frames.with_parts` has it, which our client sends and reads."""

ACCEPT_PARTS: Final = f"application/json, {PARTS}"
"""The Accept header of a client that reads them."""

MAX_NAME: Final = 100
MAX_NAME_BYTES: Final = 200
"""Systems of files have room for 255."""

MAX_HEAD: Final = 4096
"""Characters of a `data:` URL before its comma."""

_NOT_IN_NAMES: Final = re.compile(r"[^\w .()+-]|^\.+")


class File:
    """A file that comes with a request or is returned: its bytes, or where they are.

    As a parameter's annotation, the function gets the bytes in `data`, with the `name` and the `media_type` that its
    caller has given; of a name with folders, the last part. As a return value, it is sent as it is.
    """

    def __init__(
        self,
        data: bytes | None = None,
        *,
        path: "str | Path | None" = None,
        name: str = "",
        media_type: str = "",
    ) -> None:
        if (data is None) == (path is None):
            raise ValueError("a File needs its bytes or a path, and not both")
        self.data = data
        self.path = None if path is None else Path(path)
        # A function may write to where a name leads, which must not be for its caller to say.
        self.name = _last_part(name or (self.path.name if self.path is not None else ""))
        self.media_type = media_type or mimetypes.guess_type(self.name)[0] or OCTETS

    def __repr__(self) -> str:
        return f"File(name={self.name!r}, media_type={self.media_type!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Have models of pydantic's hold files without `arbitrary_types_allowed`."""
        return importlib.import_module("pydantic_core.core_schema").is_instance_schema(cls)

    def read(self) -> bytes:
        """Return the bytes."""
        return self.path.read_bytes() if self.data is None and self.path is not None else self.data or b""


class Shape:
    """The shape of arrays that a parameter takes, in `Annotated[numpy.ndarray, Shape(None, 3)]`; None: any length."""

    def __init__(self, *lengths: int | None) -> None:
        self.lengths = lengths

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> Any:
        return {**handler(core_schema), "x-openlaunch-shape": list(self.lengths)}


class DType:
    """The type of the values of arrays that a parameter takes, such as `DType("float32")`."""

    def __init__(self, name: Any) -> None:
        self.name = getattr(name, "__name__", str(name))

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> Any:
        return {**handler(core_schema), "x-openlaunch-dtype": self.name}


class Scratch:
    """A folder of one request, which is made when it is needed."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def put(self, file: File) -> Path:
        """Write a file into the folder, under its own name as far as that is one."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="openlaunch-request-"))
        path = Path(tempfile.mkdtemp(dir=self._folder)) / safe_name(file.name)
        path.write_bytes(file.read())
        return path

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


SCRATCH: Final[ContextVar[Scratch]] = ContextVar("scratch")
"""That of the request whose arguments are made."""


def safe_name(name: str) -> str:
    """Return the last part of a file's name, without what could lead elsewhere or is not text."""
    last = _last_part(name)
    stem, dot, ending = _NOT_IN_NAMES.sub("_", last).rpartition(".")
    short = (stem[: MAX_NAME - len(ending)] + dot + ending)[-MAX_NAME:]
    return short.encode()[-MAX_NAME_BYTES:].decode(errors="ignore") or "file"


def _last_part(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    return "" if last in (".", "..") else last


def of_data_url(text: str) -> File:
    """Return the file that a `data:` URL holds. Raise ValueError if it is not one."""
    comma = text.find(",", 0, MAX_HEAD)
    if comma < 0 or text[:5].lower() != "data:":
        raise ValueError("it is not a data: URL")
    media_type, *parameters = text[5:comma].split(";")
    is_base64 = bool(parameters) and parameters[-1].lower() == "base64"
    data = text[comma + 1 :]
    try:
        content = binascii.a2b_base64(data, strict_mode=True) if is_base64 else unquote_to_bytes(data)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"its base64 can't be read: {error}") from None
    name = next((each[5:] for each in parameters if each.startswith("name=")), "")
    return File(content, name=unquote(name), media_type=media_type or "text/plain")
