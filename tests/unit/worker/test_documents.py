"""The documents between the server and its workers: what one side writes the other reads, and errors name a field."""

import json
from typing import Any

import pytest

from openlaunch_worker.batching import BatchRule
from openlaunch_worker.containers import EngineCommand, GuardOrder, ImageOrder, TritonOrder
from openlaunch_worker.documents import (
    DocumentError,
    ForkOrder,
    IsolationOrder,
    Limits,
    SandboxOrder,
    SignalOrder,
    Start,
    UseOrder,
    View,
)

LIMITS = Limits(4, 1 << 20, 1 << 20, 5.0, True, BatchRule(8, 0.5))
VIEW = View("/data/workers/w1", ("/usr",), ("/shared",), ("/data",), ("/tmp",), ("/home/me",))
ISOLATION = IsolationOrder(VIEW, 1 << 30, 500, True)
IMAGE = ImageOrder(EngineCommand(("podman",), ("--log",)), "one", "image:1", {"kind": "worker"}, 1.5, 1 << 30)
DOCUMENTS: list[Any] = [
    Start({"flavor": "command", "command": ["serve"]}, LIMITS, streaming=True),
    Start({}, Limits(1, 1, 1, 1.0, False)),
    ISOLATION,
    ForkOrder("w1", {"PATH": "/bin"}, "/data/workers/w1", ISOLATION),
    ForkOrder("w1", {}, "/folder"),
    ForkOrder("spare", None, "/folder"),
    UseOrder("spare", {"PATH": "/bin"}),
    SignalOrder("w1", 15),
    SandboxOrder(("uv", "venv"), "/data", VIEW, 64321, 500, True, False, True),
    IMAGE,
    GuardOrder(("podman", "--log"), ("podman", "run", "image:1"), "one", 2),
    ImageOrder(
        *(IMAGE.engine, "one", "image:1", {}, 3, 1, (0, 2)), TritonOrder("triton:1", 2.0, None, "s3://m")
    ),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_what_one_side_writes_the_other_reads(document: Any) -> None:
    assert type(document).from_json(json.loads(json.dumps(document.to_json()))) == document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_a_field_that_is_missing_or_wrong_is_named(document: Any) -> None:
    whole = json.loads(json.dumps(document.to_json()))
    for name in whole:
        others = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(DocumentError, match=f"the field '{name}' of .* is missing"):
            type(document).from_json(others)
        with pytest.raises(DocumentError, match=f"the field '{name}' of .* is of type OneThing"):
            type(document).from_json({**others, name: OneThing()})


class OneThing:
    """A value of no type that JSON has."""


def test_an_error_does_not_show_what_was_sent() -> None:
    with pytest.raises(DocumentError) as caught:
        Start.from_json({"bundle": "the secret", "limits": {}, "streaming": False})
    assert "the secret" not in str(caught.value)
    assert str(caught.value) == "the field 'bundle' of Start is of type str: dict is needed"


def test_a_truth_is_not_a_number_and_a_whole_number_is_a_float() -> None:
    limits = LIMITS.to_json()
    assert Limits.from_json({**limits, "url_timeout": 5}).url_timeout == 5.0
    with pytest.raises(DocumentError, match="'per_worker' of Limits is of type bool: int is needed"):
        Limits.from_json({**limits, "per_worker": True})


def test_a_document_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(DocumentError, match="Start is of type list: an object is needed"):
        Start.from_json([])
