"""The source texts of code that goes along, and whether code is what its source says."""

import linecache
import os
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final

from openlaunch.client.packing.code_objects import names_in, nested, renamed
from openlaunch.client.packing.own_code import Source, is_installed
from openlaunch.errors import BundleError

_CLIENT: Final = f"{Path(__file__).parents[2]}{os.sep}"
_REWRITTEN: Final = "@pytest_ar"
"""The global by which functions call pytest where it has rewritten their asserts."""


class SourceTexts:
    """The source files of code, by the name that tracebacks show; None where the code is not of that text."""

    def __init__(self) -> None:
        self.texts: dict[str, str | None] = {}

    def plain(self, code: CodeType) -> CodeType:
        """Return code as its source has it, and note that: without what pytest makes of asserts."""
        if code.co_filename.startswith(_CLIENT):
            return renamed(code, "<openlaunch>")
        text = self._text_of(code)
        if _REWRITTEN in names_in(code) and text is not None:
            return _codes_in(text, code.co_filename).get(_key(code), [code])[0]
        return code

    def _text_of(self, code: CodeType) -> str | None:
        name = code.co_filename
        if is_installed(name):
            return None
        if name not in self.texts:
            linecache.checkcache(name)
            self.texts[name] = "".join(linecache.getlines(name)) or None
            if not _is_from(code, self.texts[name]):
                self.texts[name] = None  # the lines are others than those that run
        return self.texts[name]


def check_fresh(function: FunctionType, source: Source) -> None:
    """Refuse a function of a file that is another by now than the one that was imported."""
    if function.__code__.co_filename != str(source.file):
        return
    if not _is_from(function.__code__, source.file.read_text("utf-8", "replace")):
        raise BundleError(
            f"{source.file} was changed after {function.__module__} was imported: import it again "
            "(importlib.reload, or a new session), so that what is deployed is what you have here"
        )


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _is_from(code: CodeType, text: str | None) -> bool:
    """Return whether a text is the source of code, as far as that can be known."""
    if text is None:
        return False
    if not Path(code.co_filename).exists():
        return True  # a notebook's cell, whose text can't change
    known = _codes_in(text, code.co_filename).get(_key(code), [])
    return code in known or (bool(known) and _REWRITTEN in names_in(code))


@lru_cache(maxsize=64)
def _codes_in(text: str, filename: str) -> dict[tuple[str, int], list[CodeType]]:
    try:
        module = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[str, int], list[CodeType]] = {}
    for code in nested(module):
        found.setdefault(_key(code), []).append(code)
    return found
