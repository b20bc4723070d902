"""Chunks of a batch job's inputs: bounded in number and in bytes."""

import pytest

from openlaunch.server.jobs.batch_orders import CHUNK_BYTES, Order, chunks
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.tasks.batch_input import BadRow

MIB = 1024 * 1024
ORDER = Order(most=4, max_bytes=64 * MIB)


def sizes(rows, order=ORDER):
    """Bytes of the inputs, chunk by chunk."""
    found = list(chunks(iter(rows), BundleSchemas({}), order))
    return [[len(predict_input.body) // MIB for predict_input, _ in chunk] for chunk in found]


def of(mib):
    return '{"args": {"x": "%s"}}' % ("x" * (mib * MIB))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], [[]]),
        ([of(0)] * 4, [[0] * 4, []]),
        ([of(0)] * 5, [[0] * 4, [0], []]),
        ([of(1)] * 4 + [of(0)], [[1, 1, 1], [1, 0], []]),
        ([of(0), of(40), of(40), of(0)], [[0], [40], [40], [0], []]),
    ],
)
def test_a_chunk_of_several_inputs_is_bounded(rows, expected):
    assert sizes(rows) == expected


def test_reasons_count_as_the_inputs_do():
    rows = [BadRow("x" * (CHUNK_BYTES // 2))] * 3
    assert sizes(rows) == [[0], [0], [0], []]


def test_an_input_over_the_limit_is_refused_alone():
    found = list(chunks(iter([of(2), of(0)]), BundleSchemas({}), Order(most=4, max_bytes=MIB)))
    ((large, refusal), (small, fine)), _ = found
    assert b"1048576 are allowed" in refusal
    assert large.body == b""
    assert fine is None
    assert small.body
