"""Writes the reference of the `openlaunch` command from the command itself."""

import re

import typer
from typer.cli import get_docs_for_click

from openlaunch.cli.app import command as whole_command
from openlaunch.cli.connection import EPILOG

EXIT_CODE = re.compile(r"^  (\d+) +(.*)$", re.MULTILINE)


def content() -> str:
    """Write every command with its arguments and options."""
    command = whole_command()
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command, info_name="openlaunch"), name="openlaunch"
    )
    text = text.replace("# `openlaunch`\n", "", 1).replace("* `--help`: Show this message and exit.\n", "")
    text = re.sub(r"\*\*Options\*\*:\n\n(?=\n|\*\*|#|\Z)", "", text)
    text = re.sub(r"\*\*(Usage|Arguments|Options|Commands)\*\*:", r"\1:", text)
    text = re.sub(r"^\* (`[^`]+`): ", r"- \1: ", text, flags=re.MULTILINE)
    text = re.sub(r"^\$ (openlaunch .*)$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"Commands:\n\n(- .*\n)+\n", "", text)  # each has a heading, and typer cuts these texts
    text = text.replace(f"\n{EPILOG}\n", "").replace("\b", "").replace("Exit codes:\n", "Exit codes:\n\n")
    return EXIT_CODE.sub(r"- \1: \2", text)
