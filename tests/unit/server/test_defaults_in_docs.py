"""What the documentation says of a setting's default is its default."""

import re
from pathlib import Path

import pytest

from openlaunch.server.settings import Settings

DOCS = Path(__file__).parents[3] / "docs"
UNITS = {"s": 1, "minutes": 60, "h": 3600, "days": 86400, "MiB": 2**20, "GiB": 2**30, "attempts": 1, "": 1}
NUMBER = rf"(?P<number>\d[\d,]*) ?(?P<unit>{'|'.join(filter(None, UNITS))}|)"
SETTING = "`OPENLAUNCH_(?P<name>[A-Z_]+)`"
BEHIND, BEFORE = (
    rf"{SETTING}(?: jobs)? \({NUMBER}(?: by default)?\)",
    rf"\b{NUMBER}\b[^.,|`()\d]{{0,25}}\({SETTING}\)",
)
SAID = [
    (f"{page.name}: {found[0]}", found)
    for page in DOCS.rglob("*.md")
    for pattern in (BEHIND, BEFORE)
    for found in re.finditer(pattern, page.read_text())
]


def test_there_are_such_sentences():
    assert len(SAID) > 10


@pytest.mark.parametrize("found", [found for _, found in SAID], ids=[name for name, _ in SAID])
def test_the_default_that_is_said_is_the_settings(found):
    default = Settings.model_fields[found["name"].lower()].default
    assert int(found["number"].replace(",", "")) * UNITS[found["unit"]] == default
