"""Fills in, while the site is built, what pages take from elsewhere, so that a page can't differ from its source.

Two comments of a page are replaced, each on a line of its own:

- `<!-- generate: NAME -->` by what `tools/site/NAME.py` writes: settings, errors, cli or http;
- `<!-- include: PATH -->` by a Markdown file outside of `docs/`, with its links turned to where they lead from here.
"""

import base64
import importlib
import os
import re
from pathlib import Path

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

ROOT = Path(__file__).parents[2]
DIRECTIVE = re.compile(r"^<!-- (generate|include): ([\w./-]+) -->$")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)")
PAGES = {  # the pages that include what lies outside of docs/
    "CHANGELOG.md": "docs/changelog.md",
    "benchmarks/README.md": "docs/architecture/benchmarks.md",
    "benchmarks/RESULTS.md": "docs/architecture/benchmarks.md",
}


class Directives(Preprocessor):  # type: ignore[misc]  # Markdown has no types
    """Replaces the directives of a page."""

    def run(self, lines: list[str]) -> list[str]:
        """Replace each line that is a directive by the lines that it stands for."""
        return [line for given in lines for line in self._expanded(given)]

    def _expanded(self, line: str) -> list[str]:
        found = DIRECTIVE.match(line)
        if found is None:
            return [line]
        kind, name = found.groups()
        return (generated(name) if kind == "generate" else included(name)).splitlines()


def generated(name: str) -> str:
    """Write a reference page's content as Markdown."""
    content: str = importlib.import_module(f"tools.site.{name}").content()
    return content


def included(path: str) -> str:
    """Read a file of the repository, without its title and with links that work in the site."""
    source, here = ROOT / path, Path(PAGES[path]).parent
    text = re.sub(r"\A# .*\n", "", source.read_text())

    def turned(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups()
        file = os.path.relpath((source.parent / target).resolve(), ROOT)
        if image:
            return f'<img alt="{label}" src="{embedded(ROOT / file)}">'
        page = PAGES.get(file) or (file if file.startswith("docs/") else None)
        return f"[{label}]({os.path.relpath(page, here)}{anchor or ''})" if page else label

    return LINK.sub(turned, text)


def embedded(picture: Path) -> str:
    """Turn an SVG file into a URL that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(picture.read_bytes()).decode()


class DirectivesExtension(Extension):  # type: ignore[misc]
    """The extension as `zensical.toml` names it."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (the name that Python-Markdown calls)
        """Register the preprocessor before all others."""
        md.preprocessors.register(Directives(md), "openlaunch_directives", 175)


def makeExtension(**options: object) -> DirectivesExtension:  # noqa: N802
    """Make the extension."""
    return DirectivesExtension(**options)
