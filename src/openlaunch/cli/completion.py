"""`openlaunch completion`, and what is completed from the server."""

import os
from enum import StrEnum
from typing import Annotated, Any

import typer

VARIABLE = "_OPENLAUNCH_COMPLETE"
"""The variable with which a shell's script asks for completions."""

SECONDS = 2.0
"""The longest time for which a shell waits for the names of endpoints."""


class Shell(StrEnum):
    """A shell that completes commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell.")]) -> None:
    """Print a script that lets a shell complete commands, options and the names of endpoints.

    For bash, put `eval "$(openlaunch completion bash)"` into ~/.bashrc; for zsh, the same with `zsh` into ~/.zshrc,
    after `compinit`; for fish, write the script to ~/.config/fish/completions/openlaunch.fish.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # its documented place

    print(get_completion_script(prog_name="openlaunch", complete_var=VARIABLE, shell=shell.value))


def prepare(command: Any) -> None:
    """Register the shells where one of their scripts asks for completions, and make help that they can show."""
    if VARIABLE not in os.environ:
        return
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    os.environ["COLUMNS"] = "10000"  # a help of two lines would be two completions in fish
    _without_apostrophes(command)


def _without_apostrophes(command: Any) -> None:
    """Write another character for those of help texts, which zsh leaves out."""
    for each in (command, *command.params):
        for name in ("help", "short_help"):
            if text := getattr(each, name, None):
                setattr(each, name, text.replace("'", "\u2019"))
    for below in getattr(command, "commands", {}).values():
        _without_apostrophes(below)


def endpoint_names(incomplete: str) -> list[str]:
    """Return the names of endpoints that begin so; none where there is no server or it does not answer soon."""
    from openlaunch import LaunchClient
    from openlaunch.errors import OpenlaunchError

    try:
        with LaunchClient(timeout=SECONDS, max_retries=0) as client:
            names = [endpoint.model_endpoint.name for endpoint in client.list_model_endpoints()]
    except OpenlaunchError:
        return []
    return [name for name in names if name.startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(help="The endpoint's name, or OWNER/NAME.", autocompletion=endpoint_names)
]
