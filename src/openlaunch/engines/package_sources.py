"""Where uv finds packages and which of them it chooses, as the server's administrator says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote

_CHANGE_RESULTS = (
    *("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *(
        "UV_INDEX_STRATEGY",
        "UV_TORCH_BACKEND",
        "UV_CONFIG_FILE",
        "UV_CONSTRAINT",
        "UV_OVERRIDE",
        "UV_EXCLUDE",
    ),
    *("UV_BUILD_CONSTRAINT", "UV_PRERELEASE", "UV_RESOLUTION", "UV_EXCLUDE_NEWER", "UV_FORK_STRATEGY"),
    *("UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_NO_BUILD", "UV_NO_BUILD_PACKAGE", "UV_NO_SOURCES"),
)
_CREDENTIALS = re.compile(r"(?<=//)([^/@\s]+)@")
_SHORTEST_SECRET = 4
"""Hiding a shorter password would make other words unreadable."""


@dataclass(frozen=True, slots=True)
class PackageSources:
    """uv's own variables; they may hold passwords of indexes."""

    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls,
        environ: Mapping[str, str],
        torch_backend: str = "",
        extra_index_urls: str = "",
        find_links: str = "",
    ) -> Self:
        """Return what the variables say, or in their place the settings, whose lists have `,` between their items."""
        settings = {
            "UV_TORCH_BACKEND": torch_backend,
            "UV_EXTRA_INDEX_URL": " ".join(_items(extra_index_urls)),
            "UV_FIND_LINKS": ",".join(_items(find_links)),
        }
        given = {name: value for name, value in environ.items() if name.startswith("UV_")}
        return cls(given | {name: value for name, value in settings.items() if value})

    def key(self) -> dict[str, str]:
        """Return what decides which packages an environment gets, without credentials."""
        chosen = {name: self.variables.get(name) for name in _CHANGE_RESULTS}
        return {name: _CREDENTIALS.sub("", value) for name, value in chosen.items() if value}

    def folders(self) -> tuple[Path, ...]:
        """Return the folders of packages on this machine, which builds have to see."""
        places = _items(self.variables.get("UV_FIND_LINKS", ""))
        for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
            places += [place.rpartition("=")[2] for place in self.variables.get(name, "").split()]
        paths = (Path(unquote(place.removeprefix("file://"))) for place in places)
        return tuple(path for path in paths if path.is_absolute() and path.exists())

    def hide(self, text: str) -> str:
        """Return a text without the credentials of indexes."""
        for secret in self._secrets():
            text = text.replace(secret, "****")
        return text

    def _secrets(self) -> list[str]:
        """Return the longest first: one may hold another."""
        found = {user for value in self.variables.values() for user in _CREDENTIALS.findall(value)}
        found |= {user.partition(":")[2] or user for user in found}
        found |= {unquote(secret) for secret in found}
        return sorted((each for each in found if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
