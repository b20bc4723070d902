"""The user's config file: profiles, each a server and the key to it, of which one is in use."""

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from openlaunch.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Profile:
    """A server as the config file names it. `ca_file` has the certificates to trust beside the system's."""

    name: str
    url: str
    api_key: str = field(repr=False)
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """What a config file says: `active` is the name of the profile in use, None where no profile is."""

    path: Path
    profiles: Mapping[str, Profile]
    active: str | None = None

    def profile(self, name: str) -> Profile:
        """Return the profile; raise ConfigurationError, with those that exist, where it does not."""
        if name in self.profiles:
            return self.profiles[name]
        similar = get_close_matches(name, self.profiles, 1) or list(self.profiles)
        there = f"it has {', '.join(similar)}; " if similar else ""
        raise ConfigurationError(
            f"{self.path} has no profile {name!r}: {there}`openlaunch login URL --profile {name}` makes one"
        )

    def with_profile(self, profile: Profile) -> "Config":
        """Return a config that has this profile too, and uses it."""
        return replace(self, profiles={**self.profiles, profile.name: profile}, active=profile.name)

    def without(self, name: str) -> "Config":
        """Return a config without this profile; nothing is in use where it was."""
        kept = {other: profile for other, profile in self.profiles.items() if other != name}
        return replace(self, profiles=kept, active=None if self.active == name else self.active)


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Find the config file of this user, which need not exist."""
    if named := environ.get("OPENLAUNCH_CONFIG_FILE"):
        return Path(named).expanduser()
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "openlaunch" / "config.toml"


def read_config(environ: Mapping[str, str] = os.environ) -> Config:
    """Read the config file; one that does not exist has no profiles.

    Raises:
        ConfigurationError: it can't be read, or something in it is not as it has to be.
    """
    path = config_file(environ)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Config(path, {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the config file {path} can't be read: {error}") from error
    profiles = {name: _profile(path, name, table) for name, table in _tables(path, document).items()}
    active = document.get("profile")
    config = Config(path, profiles, active or None)
    if active:
        config.profile(active)
    return config


def _tables(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in document if name not in ("profile", "profiles")]
    if unknown:
        raise ConfigurationError(f"{path}: {unknown[0]} is unknown; profile and [profiles.NAME] are allowed")
    tables = document.get("profiles", {})
    if not isinstance(tables, dict) or not isinstance(document.get("profile", ""), str):
        raise ConfigurationError(f"{path}: profile is a name, and each profile a table [profiles.NAME]")
    return tables


def _profile(path: Path, name: str, table: Any) -> Profile:
    where, texts = f"{path}: [profiles.{name}]", ("url", "api_key", "ca_file")
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ConfigurationError(f"{where} is not a table of texts: {', '.join(texts)}")
    if unknown := [key for key in table if key not in texts]:
        raise ConfigurationError(f"{where}: {unknown[0]} is unknown; {', '.join(texts)} are allowed")
    if missing := [key for key in ("url", "api_key") if not table.get(key)]:
        raise ConfigurationError(f"{where}: {missing[0]} is missing")
    return Profile(name, **table)


def write_config(config: Config) -> None:
    """Write the config file, readable for its owner alone; a reader sees the old one or the new one."""
    config.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=config.path.parent, prefix=".config-")  # made with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_text(config))
        Path(temporary).replace(config.path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _text(config: Config) -> str:
    lines = [] if config.active is None else [f"profile = {_string(config.active)}"]
    for profile in config.profiles.values():
        lines += ["", f"[profiles.{_string(profile.name)}]"]
        lines += [f"url = {_string(profile.url)}", f"api_key = {_string(profile.api_key)}"]
        lines += [] if profile.ca_file is None else [f"ca_file = {_string(profile.ca_file)}"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _string(text: str) -> str:
    # TOML's basic strings are JSON's, but for what is escaped beyond need and for the character 127.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
