"""What uv does at the moment, in words, from the lines that it prints."""

import re

_LINE = re.compile(
    r" *(Resolved|Downloading|Downloaded|Building|Built|Prepared|Installed) ([\w.+!=-]{1,120})"
    r"(?: packages?)?(?: (\(\d[\d.]*\w+\)))?"
)
_STAGES = {"Resolved": "fetching", "Prepared": "installing", "Installed": "compiling"}
"""What uv, and then Python, does after each of these lines."""

_SHOWN = 3
_MAX_KEPT = 1000


class UvProgress:
    """Reads the output of one installation."""

    def __init__(self) -> None:
        self._stage = ""
        self._under_way: dict[str, str] = {}

    def read(self, line: str) -> str | None:
        """Return what is done now, such as "downloading numpy (16.1MiB)"; None where the line does not say it."""
        if (match := _LINE.match(line)) is None:
            return None
        verb, name, size = match.groups()
        if verb in ("Downloading", "Building"):
            if len(self._under_way) < _MAX_KEPT:
                self._under_way[name] = " ".join(filter(None, (verb.lower(), name, size)))
        elif verb in ("Downloaded", "Built"):
            self._under_way.pop(name, None)
        else:
            self._under_way.clear()
            self._stage = f"{_STAGES[verb]} {name} package{'' if name == '1' else 's'}"
        return self._words()

    def _words(self) -> str:
        first = list(self._under_way.values())[:_SHOWN]
        more = len(self._under_way) - len(first)
        return ", ".join(first or [self._stage]) + (f" and {more} more" if more else "")
