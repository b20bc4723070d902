"""Reads requirements files."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from openlaunch.errors import BundleError

_COMMENT = re.compile(r"(^|\s)#.*")
_LINE_END = re.compile(r"\r\n|\r|\n")
"""Where a line of a requirements file ends; `splitlines` would also end it at characters that comments have."""


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
