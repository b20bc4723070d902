"""The command as a whole: its global options, its nouns, and what becomes of an error."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import Connection
from openlaunch.cli.failures import EPILOG, ExitCode, complain, report
from openlaunch.cli.serve import serve
from openlaunch.cli.version import version
from openlaunch.errors import OpenlaunchError

app = typer.Typer(
    name="openlaunch",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(serve)
app.command()(version)


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The server, such as http://127.0.0.1:8000.", show_default=False)
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The API key; safer in OPENLAUNCH_API_KEY.", show_default=False)
    ] = None,
) -> None:
    """Serve Python functions as model endpoints.

    Without --url, the server is that of OPENLAUNCH_URL and OPENLAUNCH_API_KEY, else that of LAUNCH_ENDPOINT
    and LAUNCH_API_KEY, else the one that runs on this machine.
    """
    ctx.obj = Connection(url, api_key)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; the program's own arguments are the default."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    try:
        code = app(args=arguments, prog_name="openlaunch", standalone_mode=False)
    except OpenlaunchError as error:
        return report(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        # Usage errors are click's, or those of the copy of click inside newer typers.
        if not hasattr(error, "format_message"):
            raise
        return _report_usage(error)
    return code if isinstance(code, int) else ExitCode.OK


def _report_usage(error: Any) -> ExitCode:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "openlaunch"
    complain(error.format_message(), f"`{command} --help` tells what there is")
    return ExitCode.USAGE
