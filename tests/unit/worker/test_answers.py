import enum
import json
import pickle
import re
import uuid
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch_worker import answers
from openlaunch_worker.failures import Refusal
from openlaunch_worker.files import OCTETS, PARTS, File
from openlaunch_worker.frames import Outcome, document_behind
from openlaunch_worker.values import plain, text_of_part

MANY = 1 << 30
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_a_success_holds_the_return_value_as_json_text(value):
    document = json.loads(answers.success(value, MANY))
    assert json.loads(document["result"].pop("result")) == value
    assert document == {"status": "SUCCESS", "result": {}, "traceback": None, "status_code": 200}


@given(json_values)
def test_an_event_holds_the_item_itself_on_one_line(value):
    data = answers.event(value, MANY)
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert json.loads(data[6:]) == {
        "status": "SUCCESS",
        "result": {"result": value},
        "traceback": None,
        "status_code": 200,
    }


def test_a_failure_has_the_text_and_the_status_code():
    assert json.loads(answers.failure('it "broke"\n', 504)) == {
        "status": "FAILURE",
        "result": None,
        "traceback": 'it "broke"\n',
        "status_code": 504,
    }


def test_a_failure_event_is_the_failure_as_an_event():
    assert answers.failure_event("x", 500) == b"data: " + answers.failure("x", 500) + b"\n\n"


def test_a_value_that_is_not_json_names_its_type_and_return_pickled():
    with pytest.raises(Refusal, match=r"of type object, can't be written as JSON .* return_pickled=True"):
        answers.success(object(), MANY)


def test_a_part_that_is_not_json_is_named_too():
    with pytest.raises(Refusal, match=r"of type dict, .*Object of type complex"):
        answers.success({"a": [1j]}, MANY)


@pytest.mark.parametrize("key", [(1, 2), frozenset([1]), object()])
def test_a_key_that_is_not_json_is_named(key):
    with pytest.raises(Refusal, match=f"keys must be text or numbers, not {type(key).__name__}"):
        answers.success({key: 1}, MANY)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_named(number):
    with pytest.raises(Refusal, match=r"of type list, holds NaN or Infinity.*return_pickled=True"):
        answers.success([number], MANY)


def test_a_circle_is_refused():
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(Refusal, match="Circular"):
        answers.success(circle, MANY)


def test_nesting_without_end_is_refused():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Refusal, match="recursion"):
        answers.success(deep, MANY)
    while deep:
        deep = deep.pop()


def test_what_a_values_own_methods_raise_is_a_refusal():
    class Odd(dict):
        def items(self):
            raise LookupError("no items here")

    with pytest.raises(Refusal, match="no items here"):
        answers.success(Odd(a=1), MANY)


def test_an_item_that_is_not_json_has_no_word_of_pickles():
    with pytest.raises(Refusal, match="yield JSON types") as caught:
        answers.event(1j, MANY)
    assert "pickled" not in str(caught.value)


def test_a_result_over_the_limit_names_both_sizes():
    with pytest.raises(Refusal, match="the return value is 12 bytes, over the server's limit of 11 bytes"):
        answers.success("x" * 10, 11)


def test_a_result_at_the_limit_is_sent():
    assert b"xxxxxxxxxx" in answers.success("x" * 10, 12)


def test_pickled_gives_back_what_was_returned():
    assert pickle.loads(answers.pickled({1, 2}, MANY)) == {1, 2}


def test_a_pickle_over_the_limit_names_both_sizes():
    with pytest.raises(
        Refusal, match=r"pickled return value is \d+ bytes, over the server's limit of 10 bytes"
    ):
        answers.pickled(b"x" * 100, 10)


def test_enums_of_json_types_are_json():
    class Colour(enum.StrEnum):
        RED = "red"

    assert json.loads(answers.success(Colour.RED, MANY))["result"] == {"result": '"red"'}


def test_without_the_encoder_in_c_answers_are_the_same(monkeypatch):
    value = {"a": [1, 2.5, None, True, "é\n"], "b": {"c": ()}}
    quick = answers.event(value, MANY)
    monkeypatch.setattr(answers._PLAIN, "_quick", None)
    assert answers.event(value, MANY) == quick


def test_bytes_of_a_value_stand_in_front_of_its_json():
    value = {"a": [b"\x00\n", {"b": b""}], "c": "text", 1: 2.5}
    outcome, body = answers.in_parts(value, MANY, False)
    assert outcome == Outcome.BINARY
    answer, named = body[: -1 - body[-1]], body[-1 - body[-1] : -1]
    assert (answer[:2], named.decode()) == (b"\x00\n", PARTS)
    document = json.loads(document_behind(answer))
    first, second = document["value"]["a"][0], document["value"]["a"][1]["b"]
    assert (first, second) == tuple(text_of_part(document["mark"], number) for number in (0, 1))
    assert document["parts"] == [[0, 2, OCTETS, "bytes", ""], [2, 2, OCTETS, "bytes", ""]]
    assert answers.in_parts([1, "a"], MANY, True) == (Outcome.SUCCESS, answers.success([1, "a"], MANY))
    with pytest.raises(Refusal, match="over the server's limit of 100 bytes"):
        answers.in_parts([b"a" * 101], 100, False)
    with pytest.raises(Refusal, match="can't be written as JSON"):
        answers.in_parts([b"a", object()], MANY, False)


@pytest.mark.parametrize("data", [b"", b"a", b"\xff\x00" * 1000])
def test_base64_in_an_answer_is_what_an_encoder_would_have_written(data):
    value = {"a": [data, {'"': data}], "b": File(data, name='"\\é.txt', media_type='a/"b"'), "c": '"\\'}
    in_json = json.dumps(value, default=plain)
    assert json.loads(answers.success(value, MANY))["result"]["result"] == in_json
    assert answers.event(value, MANY) == b"data: " + answers.HEAD + in_json.encode() + answers.TAIL + b"\n\n"
    if data:
        with pytest.raises(Refusal, match="over the server's limit"):
            answers.success(value, len(in_json) // 2)


def test_bytes_behind_a_key_that_json_does_not_have_are_sent_once():
    outcome, body = answers.in_parts([b"abc", {uuid.UUID(int=1): b"d"}], MANY, False)
    document = json.loads(document_behind(body[: -1 - body[-1]]))
    assert (outcome, len(document["parts"]), body[:4]) == (Outcome.BINARY, 2, b"abcd")


@dataclass
class Record:
    held: dict


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ({1: "a", "1": "b"}, "1 and '1', which are both '1'"),
        ([{"x": ({"true": 1, True: 2},)}], "'true' and True, which are both 'true'"),
        ({None: 1, "null": 2}, "None and 'null'"),
        ({1.5: 1, "1.5": 2}, "1.5 and '1.5'"),
        ({-7: 1, "x": {}, "-7": 2}, "-7 and '-7'"),
        ([Record({1: 1, "1": 2})], "1 and '1'"),
        ({"x": MappingProxyType({1: 1, "1": 2})}, "1 and '1'"),
    ],
)
def test_keys_that_are_the_same_in_json_are_refused_by_name(value, keys):
    with pytest.raises(Refusal, match=re.escape(keys)):
        answers.success(value, MANY)
    with pytest.raises(Refusal, match=re.escape(keys)):
        answers.event(value, MANY)


@given(st.dictionaries(st.text("1-.x") | st.integers(-3, 3) | st.booleans() | st.none(), st.integers()))
def test_no_key_is_lost(value):
    texts = [key if isinstance(key, str) else json.dumps(key) for key in value]
    try:
        document = json.loads(answers.success(value, MANY))
    except Refusal:
        assert len(set(texts)) < len(texts)
    else:
        assert json.loads(document["result"]["result"]) == dict(zip(texts, value.values(), strict=True))
