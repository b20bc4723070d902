"""The files of the page: what they weigh, and where they lead."""

import gzip
import re
from pathlib import Path

import openlaunch.server.page

MAX_BYTES = 200_000
FILES = sorted((Path(openlaunch.server.page.__file__).parent / "static").iterdir())
HOSTS = {"www.w3.org", "hooks.example", "example.com"}
"""The name of SVG, and what stands in empty fields: nothing is asked of them."""


def test_all_of_them_weigh_little():
    assert len(FILES) > 15
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) < MAX_BYTES


def test_none_names_another_host():
    for path in FILES:
        found = set(re.findall(r"https?://([\w.-]+)", path.read_text()))
        assert (path.name, found - HOSTS) == (path.name, set())
