"""The options that every command takes, wherever they stand, and the server that a command talks to."""

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

if TYPE_CHECKING:
    from openlaunch import LaunchClient


@dataclass(slots=True)
class GlobalOptions:
    """What the options that every command takes say; a server that is not named is found as `LaunchClient` does."""

    server: str | None = None
    api_key: str | None = field(default=None, repr=False)
    profile: str | None = None
    as_json: bool = False
    owner: str | None = None
    """The owner whose things an admin's command is about, where the command has that option."""


def _remember(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> None:
    if value:
        setattr(options_of(context), str(parameter.name), value)


def options_of(context: typer.Context) -> GlobalOptions:
    """Return what is given of the options that every command takes."""
    return context.find_root().ensure_object(GlobalOptions)


def _declare(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "--url",
            help="URL of the server.  [default: OPENLAUNCH_URL, else a profile's, else this machine's server]",
            callback=_remember,
            expose_value=False,
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            "--key",
            help="API key.  [default: OPENLAUNCH_API_KEY, else the key that is stored with the server's URL]",
            callback=_remember,
            expose_value=False,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Profile that `openlaunch login` made.  [default: OPENLAUNCH_PROFILE, else the one in use]",
            callback=_remember,
            expose_value=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", callback=_remember, expose_value=False)
    ] = False,
) -> None:
    """Declare the options that every command takes."""


def add_global_options(command: Any) -> None:
    """Let the options stand after any word of a command line; only the help of `openlaunch` itself shows them."""
    declaring = typer.Typer(add_completion=False)
    declaring.command()(_declare)
    _add(
        command,
        [each for each in typer.main.get_command(declaring).params if each.name != "help"],
        shown=True,
    )


CHANGING = ("edit", "update", "set")
"""Commands that leave what is not given as it is."""

EPILOG = (
    "`openlaunch --help` lists the options that every command takes, such as --server, and the exit codes."
)


def _add(command: Any, parameters: list[Any], *, shown: bool) -> None:
    taken = {flag for parameter in command.params for flag in parameter.opts}
    groups = hasattr(command, "commands")
    for parameter in parameters:
        if parameter.name == "as_json" and not groups:
            continue  # a command that prints data has the option, and no other does
        added = copy.copy(parameter)
        added.opts = [flag for flag in parameter.opts if flag not in taken]
        added.hidden = not shown
        command.params.append(added)
    command.epilog = command.epilog or EPILOG
    command.short_help = _first_sentence(command.help or "")
    if not groups:
        _name_missing_defaults(command)
    for below in command.commands.values() if groups else ():
        _add(below, parameters, shown=False)


def _name_missing_defaults(command: Any) -> None:
    """Let the help of each option say what holds without it."""
    usual = "unchanged" if command.name in CHANGING else "none"
    for option in command.params:
        takes_value = option.param_type_name == "option" and not option.is_flag and not option.hidden
        if takes_value and option.default is None and not option.required and "[default:" not in option.help:
            option.help += f"  [default: {'all' if option.help.startswith('Only') else usual}]"


def _first_sentence(text: str) -> str:
    """Return what a list of commands says, whole: typer would cut it in the middle of the line."""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".") + "."


def explain_key(error: Exception, given: GlobalOptions) -> None:
    """Add to an error about a key where the key came from, unless it says already what to do."""
    from openlaunch.client.config import find_address

    if not hasattr(error, "__notes__"):
        address = find_address(given.api_key, given.server, profile=given.profile, keep_path=True)
        error.add_note(
            f"the key is from {address.key_source}; `openlaunch login {address.url}` stores another one"
        )


def connect(context: typer.Context) -> "LaunchClient":
    """Return the client for a command, for a `with` statement; raise ConfigurationError where no key is found."""
    from openlaunch import LaunchClient  # takes time, which `--help` and `version` need not

    given = options_of(context)
    return LaunchClient(
        given.api_key,
        given.server,
        use_path_with_custom_endpoint=True,
        profile=given.profile,
        owner=given.owner,
    )
