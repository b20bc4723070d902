"""What `--help` shows, of every command."""

import re
import shlex
from importlib.resources import files

import pytest
import typer

from openlaunch.cli.app import command


def found(group, path=("openlaunch",)):
    """Each command below with its path, groups included."""
    yield path, group
    for name, below in getattr(group, "commands", {}).items():
        yield from found(below, (*path, name))


COMMANDS = {" ".join(path): each for path, each in found(command())}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_cuts_no_sentence(name):
    text = COMMANDS[name].get_help(typer.Context(COMMANDS[name], info_name=name))
    assert not [line for line in text.splitlines() if len(line) > 80]
    assert not [line for line in text.splitlines()[1:] if line.endswith("...")]


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if not hasattr(each, "commands")])
def test_every_option_that_takes_a_value_says_what_holds_without_it(name):
    context = typer.Context(COMMANDS[name], info_name=name)
    options = [
        each for each in COMMANDS[name].params if each.param_type_name == "option" and not each.is_flag
    ]
    shown = [each.get_help_record(context) for each in options if not each.hidden]
    assert not [text for _, text in shown if "[default: " not in text and "required]" not in text]


def test_options_that_stand_anywhere_are_in_the_help_of_openlaunch_alone():
    for name, each in COMMANDS.items():
        text = each.get_help(typer.Context(each, info_name=name))
        assert ("--server, --url" in text) == (name == "openlaunch"), name


def test_every_command_that_the_page_names_can_be_typed():
    scripts = [each.read_text() for each in (files("openlaunch.server.page") / "static").iterdir()]
    named = set(re.findall(r"\"(openlaunch [a-z][^\"\\]*)\"", "\n".join(scripts)))
    assert len(named) > 8
    for each in named:
        words = shlex.split(each)
        most = next(n for n in range(len(words), 1, -1) if " ".join(words[:n]) in COMMANDS)
        name, given = " ".join(words[:most]), [word for word in words[most:] if word != "--help"]
        if "--help" in words or not given:
            continue
        COMMANDS[name].make_context(name, given)  # which raises where an argument is missing or unknown
