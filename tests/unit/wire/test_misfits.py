"""What pydantic finds wrong, in plain words."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from openlaunch.server.control.app import control_plane
from openlaunch.server.settings import Settings
from openlaunch.wire.misfits import said


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="a", min_length=1, max_length=3)
    port: int = Field(default=1, ge=1, le=9)
    share: float = Field(default=1, gt=0, lt=2)
    tags: list[str] = Field(default=[], max_length=2)
    env: dict[str, str] = {}
    is_on: bool = False
    kind: Literal["a", "b"] = "a"

    @field_validator("tags")
    @classmethod
    def _no_blank(cls, tags):
        if "" in tags:
            raise ValueError("a tag is empty")
        return tags


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", 3, "text is needed"),
        ("name", "", "at least 1 character is needed"),
        ("name", "abcd", "at most 3 characters are allowed"),
        ("port", "x", "a whole number is needed"),
        ("port", 1.5, "a whole number is needed"),
        ("port", 0, "at least 1 is needed"),
        ("port", 10, "at most 9 is allowed"),
        ("share", "x", "a number is needed"),
        ("share", 0, "a number above 0 is needed"),
        ("share", 2, "a number below 2 is needed"),
        ("tags", "x", "a list is needed"),
        ("tags", ["a", "b", "c"], "at most 2 items are allowed, 3 came"),
        ("tags", [""], "a tag is empty"),
        ("env", [], "an object of names and values is needed"),
        ("is_on", "perhaps", "true or false is needed"),
        ("kind", "c", "'a' or 'b' is needed"),
        ("other", 1, "there is no such field"),
    ],
)
def test_words_say_what_is_needed(field, value, words):
    with pytest.raises(ValidationError) as caught:
        Form.model_validate({field: value})
    assert [said(error) for error in caught.value.errors()] == [words]


def patterns(document: Any):
    if isinstance(document, dict):
        if isinstance(document.get("pattern"), str):
            yield document["pattern"]
        document = document.values()
    if not isinstance(document, str | int | float | bool | None):
        for each in document:
            yield from patterns(each)


def test_each_pattern_of_a_setting_or_a_route_has_words():
    known = {*patterns(control_plane(None).openapi()), *patterns(Settings.model_json_schema())}
    assert len(known) > 10
    for pattern in known:
        error = {"type": "string_pattern_mismatch", "ctx": {"pattern": pattern}, "msg": ""}
        assert said(error)


def test_the_value_of_a_parameter_of_a_url_is_repeated_and_no_other():
    error = {"type": "enum", "input": "FAILD", "ctx": {"expected": "'FAILURE' or 'SUCCESS'"}}
    assert said({**error, "loc": ("query", "status")}) == "'FAILD' came, 'FAILURE' or 'SUCCESS' is needed"
    assert said({**error, "loc": ("body", "status")}) == "'FAILURE' or 'SUCCESS' is needed"
