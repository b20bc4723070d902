"""The client's keywords for the settings of an endpoint, held against the settings on the wire."""

from typing import get_args

import pytest
from pydantic import TypeAdapter

from openlaunch.wire.endpoint_settings import EndpointSettings
from openlaunch.wire.keywords import KEYWORD_HELP, KEYWORD_TYPES

WITHOUT_KEYWORD = {
    *("metadata", "optimize_costs", "forwarder_max_concurrency", "prewarm", "billing_tags"),
    "default_callback_auth",  # the client has a keyword for each of its parts
}


def test_every_setting_has_a_keyword_or_is_listed_here():
    assert set(EndpointSettings.model_fields) == {*KEYWORD_TYPES, *WITHOUT_KEYWORD}


@pytest.mark.parametrize("name", KEYWORD_TYPES)
def test_a_keyword_has_the_type_of_its_setting(name):
    setting = TypeAdapter(EndpointSettings.model_fields[name].annotation).json_schema()["anyOf"]
    keyword = TypeAdapter(KEYWORD_TYPES[name]).json_schema()["anyOf"]
    if name == "gpu_type":  # which an error names, so that a keyword is plain text
        assert str in get_args(KEYWORD_TYPES[name])
    else:
        # A setting with parts, each of which has bounds, is named by a reference.
        assert {each.get("type", "object") for each in setting} == {each["type"] for each in keyword}


def test_every_keyword_says_what_it_is_and_its_default():
    assert all("Default: " in text for text in KEYWORD_HELP.values())
