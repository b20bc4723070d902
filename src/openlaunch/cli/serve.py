"""`openlaunch serve`."""

import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from openlaunch.cli.output import note
from openlaunch.cli.server_settings import read_settings
from openlaunch.cli.variables import unknown
from openlaunch.errors import ConfigurationError
from openlaunch.store.postgres_url import without_password

log = logging.getLogger(__name__)

NEEDED = (
    "alembic",
    "fastapi",
    "httptools",
    "obstore",
    "orjson",
    "prometheus_client",
    "pydantic_settings",
    "python_multipart",
    "sqlalchemy",
    "uvicorn",
)


LogFormat = Literal["text", "json"]


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 picks a free one.  [default: 8000]")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="The folder for all durable data.  [default: ~/.openlaunch]")
    ] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(
            help="Keep bundles, files and large results in a bucket: s3://BUCKET/PREFIX, gs://… or az://…  "
            "[default: a folder of the data directory]"
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="The PostgreSQL database for the records, postgresql://USER@HOST/NAME.  "
            "[default: a file in the folder]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where workers run: local, on this machine; agents, on the nodes of --agents; or ray, on those of "
            "the Ray cluster at RAY_ADDRESS.  "
            "[default: local]"
        ),
    ] = None,
    agents: Annotated[
        str | None,
        typer.Option(help="The agents of the nodes, HOST:PORT with commas between, for --engine agents."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="Serve HTTPS with this certificate: a PEM file, with its chain.  [default: none, HTTP]"
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(help="The certificate's key, a PEM file.  [default: the file of the certificate]"),
    ] = None,
    access_log: Annotated[
        str | None,
        typer.Option(
            metavar="off|errors|all|FILE",
            help="Write lines for requests: errors or all of them to stderr, or all to a file.  [default: off]",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Write the log as text or JSON.  [default: text]")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Open /metrics without a key on this port of 127.0.0.1.  [default: none]"),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(help="Serve the Open Inference Protocol over gRPC on this port.  [default: none]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of settings, which environment variables and options go before."),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(help="The URL under which clients reach this server, where that is a proxy's."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Serve model endpoints from this machine until SIGTERM or Ctrl-C.

    Prints `ready URL` when it accepts requests. The log goes to stderr. Environment variables named OPENLAUNCH_*
    set what has no option, and so does the file of --config; `openlaunch docs settings` lists them.
    """
    check_installed()
    hide_password(store)
    log_to_stderr(verbose)
    gc.disable()  # what an import makes stays: looking through it again and again is a tenth of the start
    from openlaunch.server.serve import serve as run

    gc.enable()
    given = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "artifacts": artifacts,
        "store": store,
        "engine": engine,
        "agents": agents,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "access_log": access_log,
        "log_format": log_format,
        "metrics_port": metrics_port,
        "grpc_port": grpc_port,
        "public_url": public_url,
    }
    settings = read_settings({name: value for name, value in given.items() if value is not None}, config)
    log_as(settings.log_format)
    for sentence in unknown(os.environ, type(settings).model_fields):
        log.warning(sentence)
    say = note if settings.log_format == "text" else log.info
    run(settings, partial(_say_ready, settings.data_dir, say))


def hide_password(store: str | None) -> None:
    """Begin again without the password, which every user of the machine would see in the list of processes."""
    plain, password = without_password(store or "")
    if password:
        os.environ["PGPASSWORD"] = password
        arguments = [argument.replace(store or "", plain) for argument in sys.orig_argv]
        os.execv(sys.executable, arguments)  # noqa: S606 -- the same program


def _say_ready(data_dir: Path, say: Callable[[str], None], url: str, link: str) -> None:
    data = data_dir.expanduser().absolute()
    say(f"data: {data}")
    say(f"key:  {data / 'credentials.json'} (this user's clients and commands find it there)")
    # A link in a file of logs would sign in whom it finds; on a terminal it is its user who reads it.
    signs_in = sys.stderr.isatty()
    say(f"page: {url}/#link={link} (signs in once)" if signs_in else f"page: {url}/ (openlaunch ui opens it)")
    say(f"docs: openlaunch docs, and {url}/docs for the HTTP API")
    print(f"ready {url}", flush=True)


def check_installed() -> None:
    """Raise ConfigurationError where something that the server needs is not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} is not installed: the server needs more than the client: "
            "pip install 'openlaunch[server]'"
        )


def log_as(log_format: str) -> None:
    """Have each line of the log written like this, those of Python's warnings among them."""
    from openlaunch.server.logs import FORMATTERS

    for handler in logging.root.handlers:
        handler.setFormatter(FORMATTERS[log_format]())
    logging.captureWarnings(capture=log_format == "json")


def log_to_stderr(verbose: bool) -> None:
    """Write the log to stderr; with `verbose`, more of it."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("alembic", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
    for telling in ("httpx2", "httpcore2"):  # whole URLs of callbacks, with what is secret in them
        logging.getLogger(telling).setLevel(logging.WARNING)
