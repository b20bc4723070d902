"""The command's root: global options, the nouns, and one place for errors."""

from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from openlaunch.cli import (
    audit,
    backup,
    batch_jobs,
    bundles,
    deploy,
    endpoints,
    image_jobs,
    keys,
    serve,
    storage,
    tasks,
    triggers,
)
from openlaunch.cli.connection import Connection
from openlaunch.cli.exits import HELP, Exit, code_of, show, show_usage
from openlaunch.cli.output import Json, emit
from openlaunch.errors import OpenlaunchError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help and usage errors in plain text: no boxes that break words when piped
    epilog=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(help="The server's URL.  [default: OPENLAUNCH_URL, else this machine's server]"),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The API key.  [default: OPENLAUNCH_API_KEY, else the key of this machine's server]"
        ),
    ] = None,
) -> None:
    """Turn Python functions into model endpoints."""
    context.obj = Connection(url, api_key)


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    number = version_of("openlaunch")
    emit({"version": number}, as_json, lambda: print(number))


app.command("serve")(serve.serve)
app.command("deploy")(deploy.deploy)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("storage")(storage.storage)
app.add_typer(bundles.app, name="bundles")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(tasks.app, name="tasks")
app.add_typer(batch_jobs.app, name="batch-jobs")
app.add_typer(image_jobs.app, name="image-jobs")
app.add_typer(triggers.app, name="triggers")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command, show what went wrong, and give the exit code; without arguments, with the program's own."""
    try:
        code = app(args=arguments, prog_name="openlaunch", standalone_mode=False)
    except OpenlaunchError as error:
        show(error)
        return code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's, or that of the copy of click in newer typers
            raise
        show_usage(error)
        return Exit.USAGE
    return code if isinstance(code, int) else Exit.OK
