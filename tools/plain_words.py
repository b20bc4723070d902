"""Find phrases that make a reader stumble, and print the plain form: `python -m tools.plain_words [PATH ...]`.

Without paths it checks `CHECKED`, which `make lint` does. In Python files it also checks how docstrings begin.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from tools import docstrings

ROOT = Path(__file__).parents[1]

CHECKED = (
    *("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"),
    *("docs", "examples", "src"),
)
"""What `make lint` checks."""

PHRASES = {
    r"so (many|few)": "name the number: 'up to N', 'the number of ...'",
    r"so often": "'N times'",
    r"so long(?! (that|ago))": "'for N seconds', 'as long as'",
    r"(?<!there )(is|are|was|were) no(?!-| (longer|more|less|fewer|later|earlier|sooner) )": "'is not a'",
    r"(go|goes|going|gone|went) on": "'continue', 'resume'",
    r"by (its|their|\w+'s) (\w+'s )?account": "'according to'",
    r"told(?! apart)": "'notified', 'receives'; 'distinguished'",
    r"any ?more(?! than)": "'no longer', or leave it out",
    r"by (itself|themselves)": "'alone', 'automatically', or leave it out",
    r"(is|are|was|were) there already": "'already exists'",
    r"(is|are|was|were) (to be )?had": "'is available', 'exists'",
    r"(hold|holds|held|holding) against": "'compare with', 'validate against'",
    r"(let|lets|letting) go of": "'release'",
    r"one too many": "'over the limit'",
    r"in vain": "'without success'",
    r"without end": "'endless', 'forever', 'unlimited'",
    r"for good": "'permanently'",
    r"of (whom|whose)": "'whose', 'for whom', or two sentences",
    r"(is|are|was|were) waited for": "name who waits: 'the server waits for ...'",
    r"whoever": "name the person or the process",
    r"(?<!there )(is|are|was|were) (?-i:none)(?! of)": "'is not one', 'does not count', 'can't be read'",
    r"what of": "'which part of', 'how much of'",
}
"""Regular expressions, and what to write instead. A space also matches a line break."""


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number, the phrase and its plain form for each match in the text."""
    # Comment marks and line breaks are dropped, because phrases are often broken between two lines.
    words = [
        (at, word) for at, line in enumerate(text.splitlines(), 1) for word in line.split() if word != "#"
    ]
    starts = list(accumulate((len(word) + 1 for _, word in words), initial=0))
    joined = " ".join(word for _, word in words)
    for pattern, plain in PHRASES.items():
        for found in re.finditer(rf"\b(?:{pattern})\b", joined, re.IGNORECASE):
            yield words[bisect_right(starts, found.start()) - 1][0], found[0], plain


def files(paths: list[Path]) -> Iterator[Path]:
    """Yield the Python and Markdown files among the paths and below them."""
    for path in paths:
        yield from (
            sorted(f for f in path.rglob("*") if f.suffix in (".py", ".md")) if path.is_dir() else [path]
        )


def _docstrings(source: str) -> Iterator[tuple[int, str, str]]:
    yield from ((line, word, docstrings.PLAIN) for line, word in docstrings.findings(source))
    yield from ((line, word, docstrings.STANDS_ALONE) for line, word in docstrings.continuations(source))


def main() -> int:
    """Print every finding, and return 1 if there is one."""
    paths = [Path(name) for name in sys.argv[1:]] or [ROOT / name for name in CHECKED]
    count = 0
    for file in files(paths):
        text = file.read_text()
        found = [*findings(text), *(_docstrings(text) if file.suffix == ".py" else ())]
        for line, phrase, plain in sorted(found):
            print(f"{file}:{line}: {phrase!r}: write {plain}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
