"""The commands that the documentation shows are there, with the options that they are given."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from openlaunch.cli.app import app

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "adr" not in path.parts),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(openlaunch [^`]+)`")
ROOT_COMMAND = typer.main.get_command(app)


def commands_of(text):
    """All commands in the blocks and the sentences of a page, without what comes before and after them in a line."""
    lines = []
    for language, block in BLOCK.findall(text):
        if language in ("sh", "bash", "text", "console", ""):
            lines += block.replace("\\\n", " ").splitlines()
    lines += [line.replace("\n", " ") for line in INLINE.findall(BLOCK.sub("", text))]
    for line in lines:
        found = re.match(
            r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:sudo -u \S+ (?:[A-Z_]+=\S+ )*)?(?:\S*/)?openlaunch (.+)", line
        )
        if found:
            yield found[1]


def problem_of(line):
    """What is wrong with a command; nothing where all of it is there."""
    try:
        words = shlex.split(re.split(r"\s(?:[|>&<]|2>|#)", line)[0], comments=True)
    except ValueError:
        return None  # an apostrophe of a sentence
    at, known = ROOT_COMMAND, set()
    for number, word in enumerate(words):
        known |= {
            option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        if word == "--":
            return None
        if word.startswith("-"):
            name = word.split("=")[0]
            if (
                name not in known
                and name not in ("--help", "-h", "--version", "-V")
                and not re.match("-[0-9]", name)
            ):
                return f"{line}: there is no {name}"
        elif hasattr(at, "commands") and not (number and words[number - 1].startswith("-")):
            if not re.fullmatch("[a-z-]+", word):
                return None  # an ellipsis, or NAME
            if word not in at.commands:
                return f"{line}: there is no {word}"
            at = at.commands[word]
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_and_option_that_a_page_shows_is_there(document):
    problems = [problem_of(line) for line in commands_of(document.read_text())]
    assert [problem for problem in problems if problem] == []


def test_commands_are_found_and_what_is_not_there_is_seen():
    block = "X=1 openlaunch endpoints lst --all > x\nopenlaunch serve --prot 1 \\\n  --host x\n"
    page = f"```sh\n{block}```\n`openlaunch top --one`"
    assert [problem_of(line) for line in commands_of(page)] == [
        "endpoints lst --all > x: there is no lst",
        "serve --prot 1    --host x: there is no --prot",
        "top --one: there is no --one",
    ]
    shown = [line for document in DOCUMENTS for line in commands_of(document.read_text())]
    assert len(shown) > 150
