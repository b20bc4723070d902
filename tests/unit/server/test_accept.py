"""What Accept headers take: the usual ones of clients and browsers, weights, and odd ones, which are let through."""

import pytest

from openlaunch.errors import NotAcceptable
from openlaunch.server.accept import EVENTS, JSON, check_accept, choose, prefers_json

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    "given",
    [
        *("", "*/*", "application/json", "Application/JSON; charset=utf-8", "application/*", BROWSER),
        *("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "image/png, application/json;q=0.001"),
        *("application/vnd.api+json", "text/json", "text/plain;q=0, */*", "application/problem+json"),
        *("json", ",", ";q=0", "image/png," * 1000),
    ],
)
def test_what_takes_json(given):
    check_accept(given, ())


@pytest.mark.parametrize(
    "given",
    [
        *("image/png", "text/html", "text/*", "text/event-stream", "application/xml, text/plain;q=0.5"),
        *("application/json;q=0", "application/json;q=0.000, image/png", "application/*;q=0, text/html"),
        *("*/*;q=0, image/png", "application/json;q=0, */*", "application/jsonp", "a/" + "b" * 3000),
    ],
)
def test_what_takes_no_json(given):
    with pytest.raises(NotAcceptable, match="answers with application/json: name that") as refused:
        check_accept(given, ())
    assert len(str(refused.value)) < 250


def test_a_path_of_several_types():
    for given in ("text/event-stream", "text/*", "application/json", BROWSER):
        check_accept(given, (EVENTS,))
    with pytest.raises(NotAcceptable, match="application/json or text/event-stream"):
        check_accept("text/html", (EVENTS,))
    check_accept("image/png", ("*/*",))


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        *(("", EVENTS), ("*/*", EVENTS), ("application/json, text/event-stream", EVENTS), (BROWSER, EVENTS)),
        *(("text/event-stream;q=0.1, application/json", JSON), ("text/event-stream;q=0, */*", JSON)),
        ("text/event-stream;q=.2, application/json; q=.1", EVENTS),
    ],
)
def test_the_type_that_is_preferred_is_chosen(given, chosen):
    assert choose(given, [EVENTS, JSON]) == chosen


def test_json_is_preferred_where_it_is_named_and_nothing_weighs_more():
    for given in (
        "application/json",
        "image/png, application/json, */*",
        "application/json;q=0.5, */*;q=0.5",
    ):
        assert prefers_json(given)
    for given in ("", "*/*", "application/json;q=0", "application/json;q=0.5, image/png", "image/png"):
        assert not prefers_json(given)
