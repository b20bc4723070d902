"""The bytecode of modules that go along, so that workers need not compile what has been compiled."""

import marshal
from functools import lru_cache
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from types import CodeType
from typing import Final

_HEADER: Final = 16
_UNCHECKED: Final = (1).to_bytes(4, "little")
"""Marks bytecode that is taken as it is: the files of a bundle that was unpacked have other times."""


def marshalled(code: CodeType) -> bytes:
    """Return code as bytes, the same for the same code."""
    try:
        return marshal.dumps(code, 2)  # later versions write the same code in several ways
    except ValueError:
        return marshal.dumps(code)


def compiled(source: Path) -> bytes | None:
    """Return what the file in `__pycache__` of a Python file is to hold, None if it can't be compiled."""
    status = source.stat()
    return _compiled(str(source), int(status.st_mtime), status.st_size)


@lru_cache(maxsize=4096)
def _compiled(source: str, changed: int, size: int) -> bytes | None:
    text = Path(source).read_bytes()
    code = _cached(source, changed, size)
    if code is None:
        try:
            code = compile(text, source, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return None
    return MAGIC_NUMBER + _UNCHECKED + source_hash(text) + marshalled(code)


def _cached(source: str, changed: int, size: int) -> CodeType | None:
    """Return the code that Python has kept of a file, None if that is of another file."""
    try:
        data = Path(cache_from_source(source)).read_bytes()
    except (OSError, NotImplementedError):
        return None
    times = (changed & 0xFFFFFFFF).to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    if data[:_HEADER] != MAGIC_NUMBER + bytes(4) + times:
        return None
    code = marshal.loads(data[_HEADER:])  # noqa: S302 -- Python itself would load it
    return code if isinstance(code, CodeType) and code.co_filename == source else None


def place_of_bytecode(name: str) -> str:
    """Return where the bytecode of a Python file in a bundle belongs."""
    return Path(cache_from_source(name)).as_posix()
