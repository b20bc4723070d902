"""`openlaunch docs` lists the pages, and prints one by its name."""

import json
from pathlib import Path

import pytest

from openlaunch.cli.app import run

DOCS = Path(__file__).parents[3] / "docs"


def test_all_pages_are_listed_with_their_titles(capsys):
    assert run(["docs", "--json"]) == 0
    listed = {row["page"]: row["title"] for row in json.loads(capsys.readouterr().out)}
    assert listed["how-to/troubleshoot"] == "Troubleshoot"
    assert len(listed) == len([*DOCS.rglob("*.md"), *(DOCS / "monitoring").iterdir()])
    assert all(listed.values())


@pytest.mark.parametrize("name", ["troubleshoot", "how-to/troubleshoot", "docs/how-to/troubleshoot.md"])
def test_a_page_is_printed_by_its_name(name, capsys):
    assert run(["docs", name]) == 0
    assert capsys.readouterr().out == (DOCS / "how-to/troubleshoot.md").read_text()


@pytest.mark.parametrize("name", ["alerts.yaml", "monitoring/dashboard.json"])
def test_a_file_of_monitoring_is_printed_as_it_is(name, capsys):
    assert run(["docs", name]) == 0
    assert capsys.readouterr().out == (DOCS / "monitoring" / Path(name).name).read_text()


@pytest.mark.parametrize("name", ["settings", "cli", "http", "errors"])
def test_what_the_site_generates_has_something_in_its_place(name, capsys):
    assert run(["docs", name]) == 0
    text = capsys.readouterr().out
    assert "<!-- generate" not in text
    if name == "settings":
        assert "`OPENLAUNCH_MAX_BODY_BYTES` (default: 67108864): Largest request body" in text


def test_an_unknown_page_is_told_with_the_nearest(capsys):
    assert run(["docs", "trobleshoot"]) == 2
    assert "did you mean troubleshoot?" in capsys.readouterr().err
