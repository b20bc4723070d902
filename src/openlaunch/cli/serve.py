"""`openlaunch serve`."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openlaunch.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from openlaunch.server.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on.  [default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="0 picks a free port.  [default: 8000]", show_default=False)
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="For everything durable.  [default: ~/.openlaunch]", show_default=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")] = False,
) -> None:
    """Run a server until SIGTERM or Ctrl-C.

    Prints one line, `ready http://HOST:PORT`, once it accepts requests. Each option can be given as an
    environment variable too: OPENLAUNCH_HOST and so on; the documentation lists the further settings.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=LOG_FORMAT)
    logging.getLogger("openlaunch").setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        from openlaunch.server.serve import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openlaunch"):
            raise
        raise ConfigurationError(
            f"a server needs more than the client ({error.name} is missing): pip install 'openlaunch[server]'"
        ) from None
    run(_settings(host=host, port=port, data_dir=data_dir), lambda url: print(f"ready {url}", flush=True))


def _settings(**options: Any) -> "Settings":
    from pydantic import ValidationError

    from openlaunch.server.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_explained(error, given)) from None


def _explained(error: "ValidationError", given: dict[str, Any]) -> str:
    """Names each option or variable that is wrong, its value, and what is allowed."""
    parts = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        source = f"--{name.replace('_', '-')}" if name in given else f"OPENLAUNCH_{name.upper()}"
        value = "" if name.endswith("key") else f" is {problem['input']!r}"
        parts.append(f"{source}{value}: {problem['msg']}")
    return "; ".join(parts)
