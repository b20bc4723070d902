"""The files of a folder that go along with a bundle: no secrets, nor what git ignores or tools leave behind."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Final

from openlaunch.errors import BundleError

log = logging.getLogger(__name__)

SKIPPED: Final = frozenset(
    {
        "__pycache__",
        ".git",
        ".hg",
        ".svn",
        ".venv",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".DS_Store",
        ".ipynb_checkpoints",
        "node_modules",
    }
)
SECRETS: Final = (
    *(".env", ".env.*", ".netrc", ".pypirc", ".git-credentials", ".ssh/", ".aws/"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
)
"""Patterns of what holds secrets."""

MAX_ENTRIES: Final = 100_000
"""Files and folders that are looked at. There may be far more ways through folders that link to each other."""

_TOKENS: Final = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[!?\]?[^\]]*\]|\\.|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a `.gitignore`: what it matches, below which folder."""

    base: str
    pattern: re.Pattern[str]
    negated: bool
    folders_only: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return path.startswith(self.base) and self.pattern.fullmatch(path, len(self.base)) is not None


def rules_of(lines: Iterable[str], base: Path) -> list[Rule]:
    """Read patterns as a `.gitignore` in the folder `base` has them."""
    return [rule for line in lines if (rule := _rule(line, f"{base}{os.sep}")) is not None]


def _rule(line: str, base: str) -> Rule | None:
    text = line.rstrip("\n").rstrip(" \r")
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    anywhere = "" if "/" in text else "(?:.*/)?"
    try:
        pattern = re.compile(anywhere + _regex(text.removeprefix("/")))
    except re.error:
        return None  # a range such as [z-a], which matches nothing
    return Rule(base, pattern, negated, folders_only)


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> str:
    return "".join(map(_token, _TOKENS.findall(pattern)))


def _token(token: str) -> str:
    known = {"**/": "(?:.*/)?", "/**": "/.*", "?": "[^/]"}.get(token)
    if known is not None:
        return known
    if token.startswith("*"):
        return "[^/]*"
    if token.startswith("[") and len(token) > 2:
        inner = token[1:-1].replace("\\", "\\\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(token.removeprefix("\\") or token)


def is_matched(rules: Iterable[Rule], path: str, is_folder: bool) -> bool:
    """Return what the last rule says that matches."""
    verdict = False
    for rule in rules:
        if rule.matches(path, is_folder):
            verdict = not rule.negated
    return verdict


def ignored_above(folder: Path) -> list[Rule]:
    """Return the rules of the `.gitignore` files above a folder, up to its repository's."""
    above: list[Rule] = []
    if (folder / ".git").exists():
        return above
    for parent in folder.parents:
        above = _ignored_in(parent) + above
        if (parent / ".git").exists():
            return above
    return []


def _ignored_in(folder: Path) -> list[Rule]:
    file = folder / ".gitignore"
    try:
        lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []  # a pipe has no end
    except OSError:
        return []
    return rules_of(lines, folder)


@dataclass(frozen=True, slots=True)
class Choice:
    """Patterns of files as a `.gitignore` has them: `exclude` wins over `include`, and that over what git ignores.

    With an `include`, what it does not match stays behind, except for Python files. `secrets` are patterns of what
    goes along although it holds secrets.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def is_excluded(file: Path, choice: Choice, base: Path) -> bool:
    """Return whether `exclude` matches a file, or a folder below `base` that it is in."""
    rules = rules_of(choice.exclude, base)
    folders = [parent for parent in file.parents if parent != base and parent.is_relative_to(base)]
    return is_matched(rules, str(file), False) or any(is_matched(rules, str(one), True) for one in folders)


def files_below(folder: Path, choice: Choice, base: Path | None = None) -> Iterator[Path]:
    """Give the files in a folder and below it that are chosen; the patterns are as seen from `base`.

    Raises BundleError where there are too many to look at.
    """
    patterns = (choice.include, choice.exclude, (*SECRETS, *(f"!{each}" for each in choice.secrets)))
    yield from _Walk(*(rules_of(each, base or folder) for each in patterns)).below(
        folder, ignored_above(folder), False, {os.path.realpath(folder)}, count()
    )


class _Walk:
    """Walks through folders, with what is chosen and what is not."""

    def __init__(self, include: list[Rule], exclude: list[Rule], secrets: list[Rule]) -> None:
        self._include = include
        self._exclude = exclude
        self._secrets = secrets

    def below(
        self, folder: Path, rules: list[Rule], ignored: bool, seen: set[str], looked_at: Iterator[int]
    ) -> Iterator[Path]:
        """Give files. `rules` are git's so far, and `ignored` says whether the folder is; `seen` ends circles."""
        rules = rules + _ignored_in(folder)
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if next(looked_at) >= MAX_ENTRIES:
                raise BundleError(
                    f"there are more than {MAX_ENTRIES:,} files and folders to look at, the last in {folder}: leave "
                    "out with exclude what the model does not need, and links that lead to the same folders"
                )
            is_folder = entry.is_dir()
            if entry.name in SKIPPED or is_matched(self._exclude, entry.path, is_folder):
                continue
            if is_matched(self._secrets, entry.path, is_folder):
                log.info("%s stays behind, because it may hold secrets: name it in include", entry.path)
                continue
            chosen = is_matched(self._include, entry.path, is_folder)
            out = not chosen and (ignored or is_matched(rules, entry.path, is_folder))
            if not is_folder:
                if entry.is_file() and self._takes(entry.name, chosen, out):
                    yield Path(entry.path)
            elif (self._include or not out) and (real := os.path.realpath(entry.path)) not in seen:
                inner = _Walk([], self._exclude, self._secrets) if chosen else self
                yield from inner.below(Path(entry.path), rules, out, seen | {real}, looked_at)

    def _takes(self, name: str, chosen: bool, ignored: bool) -> bool:
        if name.endswith(".pyc"):
            return False
        return chosen or (not ignored and (not self._include or name.endswith(".py")))
