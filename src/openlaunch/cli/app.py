"""The command's root: global options, the nouns, and one place for errors."""

from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from openlaunch.cli import bundles, deploy, endpoints, keys, serve, tasks
from openlaunch.cli.connection import Connection
from openlaunch.cli.exits import HELP, Exit, code_of, show
from openlaunch.cli.output import Json, emit
from openlaunch.errors import OpenlaunchError


class _Root(TyperGroup):
    """Turns the errors of all commands into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OpenlaunchError as error:
            show(error)
            raise typer.Exit(code_of(error)) from error
        except KeyboardInterrupt:
            typer.echo("interrupted; what the server has accepted goes on", err=True)
            raise typer.Exit(Exit.INTERRUPTED) from None


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The server's URL; else OPENLAUNCH_URL, else this machine's server.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The key; else OPENLAUNCH_API_KEY, else this machine's server's.")
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
app.add_typer(bundles.app, name="bundles")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(tasks.app, name="tasks")
app.add_typer(keys.app, name="keys")
