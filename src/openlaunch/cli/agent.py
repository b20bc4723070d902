"""`openlaunch agent`."""

import gc
import logging
import os
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
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings, which environment variables and options go before."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Own the workers of this node, for servers with --engine agents, until SIGTERM or Ctrl-C.

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
    serve_agent(settings, lambda at: _say_ready(at, settings.data_dir))


def _say_ready(at: str, data_dir: Path) -> None:
    note(f"data: {data_dir}")
    print(f"ready {at}", flush=True)
