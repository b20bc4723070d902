"""Checks built pages: every link and anchor leads somewhere, and no page loads anything from another host."""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADING_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "prefetch",
}
STYLE_LOADS = ("@import", "url(//", "url(http")


class Page(HTMLParser):
    """What a page has that matters here: its anchors, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and LOADING_RELATIONS & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def problems(site: Path) -> Iterator[str]:
    """Find what is wrong with the pages of a site."""
    pages = {file.resolve(): Page(file.read_text()) for file in site.rglob("*.html")}
    for file, page in pages.items():
        here = file.relative_to(site.resolve())
        yield from (f"{here} loads {url}" for url in page.loads if is_remote(url))
        if here.name != "404.html":  # served in the place of any page: its links are relative to none
            yield from (f"{here} links to {url}" for url in page.links if is_broken(url, file, pages))
    for style in site.rglob("*.css"):
        text = style.read_text()
        yield from (f"{style} has {word}" for word in STYLE_LOADS if word in text)


def is_remote(url: str) -> bool:
    """Whether something lies on another host."""
    return url.startswith("//") or urlsplit(url).scheme not in ("", "data")


def is_broken(url: str, file: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the site leads nowhere."""
    if urlsplit(url).scheme or url.startswith("//"):
        return False
    path, anchor = urldefrag(url)
    target = (file.parent / unquote(path)).resolve() if path else file
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return not target.is_file()
    return bool(anchor) and unquote(anchor) not in pages[target].anchors


def main() -> int:
    """Print what is wrong with the site that the first argument names."""
    found = list(problems(Path(sys.argv[1])))
    print("\n".join(found) or "every link leads somewhere, and nothing is loaded from another host")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
