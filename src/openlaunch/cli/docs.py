"""`openlaunch docs`."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from openlaunch.cli.output import Json, emit, emit_rows

_IN_WHEEL = Path(__file__).parents[1] / "docs"
_IN_SOURCES = Path(__file__).parents[3] / "docs"

_GENERATED = re.compile(r"<!-- generate: (\w+) -->")


def docs(
    page: Annotated[
        str | None, typer.Argument(help="The page to print, such as troubleshoot; without one, list all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the pages of this version's documentation, or print one as Markdown; or a file of monitoring/ as it is."""
    pages = dict(_pages())
    if page is None:
        rows = [{"page": name, "title": _title(path)} for name, path in pages.items()]
        emit_rows(rows, as_json, ("PAGE", "TITLE"), lambda row: tuple(row.values()))
        return
    text = _GENERATED.sub(_generated, _find(page, pages).read_text())
    emit({"page": page, "text": text}, as_json, lambda: _show(text))


def _show(text: str) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        with Console().pager():
            print(text)
    else:
        print(text, end="")


def _pages() -> Iterator[tuple[str, Path]]:
    root = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_SOURCES
    # Decisions come last: few who look for a page want one.
    for path in sorted(root.rglob("*.md"), key=lambda path: (path.parent.name == "adr", path)):
        yield path.relative_to(root).with_suffix("").as_posix(), path
    for path in sorted((root / "monitoring").iterdir()):  # their names have the suffix
        yield path.relative_to(root).as_posix(), path


def _title(path: Path) -> str:
    if path.suffix == ".json":
        return f"Dashboard of {json.loads(path.read_text())['title']} for Grafana"
    return next((line[2:] for line in path.read_text().splitlines() if line.startswith("# ")), "")


def _find(page: str, pages: dict[str, Path]) -> Path:
    wanted = page.lower().removeprefix("docs/").removesuffix(".md")
    found = [name for name in pages if name == wanted or name.rpartition("/")[2] == wanted]
    if found:
        return pages[found[0]]
    short = {name.rpartition("/")[2]: name for name in pages}
    near = get_close_matches(wanted, short, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`openlaunch docs` lists the pages"
    raise typer.BadParameter(f"the documentation has no page {page!r}: {hint}")


def _generated(mark: re.Match[str]) -> str:
    """Return what stands in a page in place of a mark, at which the site has a text made of the sources."""
    return _TEXTS[mark[1]]()


def _settings() -> str:
    if find_spec("pydantic_settings") is None:
        return "Install 'openlaunch[server]' to see the server's settings here."
    from openlaunch.server.settings import Settings

    fields = sorted(Settings.model_fields.items())
    return "\n".join(
        f"- `OPENLAUNCH_{name.upper()}`{_default(field.default)}: {field.description}"
        for name, field in fields
    )


def _default(value: object) -> str:
    return f" (default: {value})" if isinstance(value, str | int | float | bool) and value != "" else ""


_TEXTS: dict[str, Callable[[], str]] = {
    "settings": _settings,
    "cli": lambda: "`openlaunch --help` lists the commands, and `openlaunch COMMAND --help` their options.",
    "errors": lambda: "`python -m pydoc openlaunch.errors` has each class of error.",
    "http": lambda: "A server that runs shows its routes at `/docs`.",
}
