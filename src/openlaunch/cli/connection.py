"""The server that a command talks to."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openlaunch import LaunchClient


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options; what is not given is found as `LaunchClient` finds it."""

    url: str | None
    api_key: str | None = field(repr=False)


def connect(context: typer.Context) -> "LaunchClient":
    """Return the client for a command, for a `with` statement; raise ConfigurationError where no key is found."""
    from openlaunch import LaunchClient  # takes time, which `--help` and `version` need not
    from openlaunch.errors import ConfigurationError

    connection = context.find_object(Connection)
    assert connection is not None
    try:
        return LaunchClient(connection.api_key, connection.url, use_path_with_custom_endpoint=True)
    except ConfigurationError as error:
        error.add_note("openlaunch --url http://HOST:PORT --api-key KEY … names a server for one command")
        raise
