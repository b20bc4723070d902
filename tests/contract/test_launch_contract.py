"""Our OpenAPI document against that of the existing Launch system, of which `tests/data` has the part we serve."""

import json
from pathlib import Path

import pytest
from contract_schemas import Document, problems

from openlaunch.server.control.app import control_plane

DATA = Path(__file__).parents[1] / "data" / "launch-openapi.json"
OUR_FLAVORS = ("CommandFlavor",)
"""Seen only by those who made such bundles; lists leave them out unless they are asked for."""


def without_flavors(document, names):
    """The document as if bundles never had these flavours."""
    for schema in document["components"]["schemas"].values():
        flavor = schema.get("properties", {}).get("flavor", {})
        if "oneOf" in flavor:
            flavor["oneOf"] = [f for f in flavor["oneOf"] if not f["$ref"].endswith(names)]
    return Document(document)


CONTRACT = Document(json.loads(DATA.read_text()))
OPERATIONS = [(path, method) for path, methods in CONTRACT.paths.items() for method in methods]


@pytest.fixture(scope="module")
def ours():
    return without_flavors(control_plane(None).openapi(), OUR_FLAVORS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_the_operation_is_served_with_its_parameters(ours, path, method):
    assert method in ours.paths.get(path, {})
    theirs, taken = CONTRACT.parameters(path, method), ours.parameters(path, method)
    assert set(theirs) <= set(taken)
    assert not [name for name, required in taken.items() if required and not theirs.get(name)]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_contract_lets_a_client_send_is_taken(ours, path, method):
    sent = CONTRACT.request(path, method)
    if sent is None:
        assert ours.request(path, method) is None
        return
    taken = ours.request(path, method)
    assert problems(CONTRACT, sent, ours, taken, "body", all_fields=True) == []


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_is_answered_is_what_the_contract_lets_a_client_expect(ours, path, method):
    answered, expected = ours.response(path, method), CONTRACT.response(path, method)
    assert problems(ours, answered, CONTRACT, expected, "answer", all_fields=False) == []
