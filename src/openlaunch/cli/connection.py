"""The server that a command talks to."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openlaunch.client.client import LaunchClient


@dataclass(frozen=True, slots=True)
class Connection:
    """The global options; None leaves it to the environment."""

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)


def connect(ctx: typer.Context) -> "LaunchClient":
    """A client of the server that the global options or the environment name.

    Raises:
        ConfigurationError: no server or no key was found.

    """
    from openlaunch.client.client import LaunchClient

    connection = ctx.ensure_object(Connection)
    return LaunchClient(connection.api_key, connection.url, use_path_with_custom_endpoint=True)
