"""Request smuggling: no case is read in two ways by this server and h11, nor by a proxy and this server behind it.

The long form needs nginx and HAProxy: `tools/install.sh nginx haproxy`.
"""

from pathlib import Path

import pytest
import smuggling
import uvloop

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "request-smuggling.md"


def documented():
    """The table of the documentation: the cells of each case."""
    lines = PAGE.read_text().partition(smuggling.HEADING)[2].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {name: cells for name, *cells in rows}


def test_the_table_says_what_this_server_and_h11_do():
    found = uvloop.run(smuggling.by_servers())
    assert found == {name: tuple(cells[:2]) for name, cells in documented().items()}


def test_what_this_server_and_h11_both_take_is_the_same():
    found = uvloop.run(smuggling.by_servers())
    both = {name: pair for name, pair in found.items() if all(cell.startswith("/") for cell in pair)}
    assert len(both) > 10
    assert all(ours == theirs for ours, theirs in both.values()), both


@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_nothing_is_smuggled_past_a_proxy(tmp_path, program, long_form):
    if not long_form:
        pytest.skip("the long form alone: it needs proxies")
    found = uvloop.run(smuggling.by_chain(tmp_path, program))
    assert [name for name, (proxy, behind) in found.items() if smuggling.is_smuggled(proxy, behind)] == []
    assert found["a body in chunks"] == ("/A", "/A")
    assert found["two requests, one after the other"] == ("/A and /B", "/A and /B")
