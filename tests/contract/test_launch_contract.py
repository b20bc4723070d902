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
OURS = without_flavors(control_plane(None).openapi(), OUR_FLAVORS)
OPERATIONS = [(path, method) for path, methods in CONTRACT.paths.items() for method in methods]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_the_operation_is_served_with_its_parameters(path, method):
    assert method in OURS.paths.get(path, {})
    theirs, ours = CONTRACT.parameters(path, method), OURS.parameters(path, method)
    assert set(theirs) <= set(ours)
    assert not [name for name, required in ours.items() if required and not theirs.get(name)]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_contract_lets_a_client_send_is_taken(path, method):
    sent = CONTRACT.request(path, method)
    if sent is None:
        assert OURS.request(path, method) is None
        return
    taken = OURS.request(path, method)
    assert problems(CONTRACT, sent, OURS, taken, "body", all_fields=True) == []


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_is_answered_is_what_the_contract_lets_a_client_expect(path, method):
    answered, expected = OURS.response(path, method), CONTRACT.response(path, method)
    assert problems(OURS, answered, CONTRACT, expected, "answer", all_fields=False) == []
