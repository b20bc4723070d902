"""`openlaunch agent`."""

import gc
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from openlaunch.cli.output import note
from openlaunch.cli.serve import check_installed, log_as, log_to_stderr
from openlaunch.cli.server_settings import read_settings
from openlaunch.cli.variables import unknown

log = logging.getLogger(__name__)

PORT = 8001


def agent(
    host: Annotated[str | None, typer.Option(help="The address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help=f"The port to listen on; 0 picks a free one.  [default: {PORT}]")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder for environments and logs.  [default: ~/.openlaunch]"),
    ] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background",
            help="Start it in the background, unless one runs with this folder, and return once it is ready.",
        ),
    ] = False,
    until_unused: Annotated[
        bool,
        typer.Option(
            "--until-unused",
            help="End once no server was connected for OPENLAUNCH_KEEP_WORKERS_SECONDS, as with --background.",
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings, which environment variables and options go before."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Own the workers of this node, for servers with --engine agents or ray, until SIGTERM or Ctrl-C.

    Prints `ready HOST:PORT` when servers may connect. OPENLAUNCH_CLUSTER_TOKEN has to be the same for every server
    and agent; servers name the agents with --agents. An agent needs no database, no bucket and no API key.
    """
    check_installed()
    log_to_stderr(verbose)
    gc.disable()
    from openlaunch.agent.serve import serve_agent

    gc.enable()
    given = {"host": host, "port": port, "data_dir": data_dir}
    options = {name: value for name, value in given.items() if value is not None}
    if "OPENLAUNCH_PORT" not in os.environ:
        options.setdefault("port", PORT)
    settings = read_settings(options, config)
    log_as(settings.log_format)
    for sentence in unknown(os.environ, type(settings).model_fields):
        log.warning(sentence)
    if background:
        from openlaunch.agent.detached import agent_in_background
        from openlaunch.server.operations.datadir import DataDir

        at = agent_in_background(DataDir(settings.data_dir), _arguments(given | {"config": config}))
        _say_ready(at, settings.data_dir)
        return
    serve_agent(settings, lambda at: _say_ready(at, settings.data_dir), until_unused=until_unused)


def _arguments(given: Mapping[str, object]) -> list[str]:
    """Return the options again, with paths that are right in any folder."""
    options = {
        name: value.expanduser().absolute() if isinstance(value, Path) else value
        for name, value in given.items()
        if value is not None
    }
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _say_ready(at: str, data_dir: Path) -> None:
    note(f"data: {data_dir}")
    print(f"ready {at}", flush=True)
