"""The lines of a batch for models, as they are read."""

import json

import pytest

from openlaunch.tasks.model_lines import model_lines

CHAT = "/v1/chat/completions"


def read(*pieces, most=1000):
    return list(model_lines(iter(pieces), CHAT, most))


def line(custom_id="a", **given):
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m"}, **given}


def test_bodies_stay_as_they_came():
    body = '{"model": "m",  "seed": 36893488147419103232, "x": 1.10}'
    text = f'\ufeff{{"custom_id": "a", "url": "{CHAT}", "body": {body}}}\r\n\n{json.dumps(line("b"))}'
    first, second = read(text.encode()[:20], text.encode()[20:])
    assert (first.number, first.custom_id, first.model, first.body) == (1, "a", "m", body.encode())
    assert (second.number, second.custom_id, second.error) == (3, "b", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not an object of JSON"),
        (line(""), "custom_id"),
        (line("x" * 513), "custom_id"),
        (line(7), "custom_id"),
        (line(method="GET"), "method"),
        (line(url="/v1/completions"), "batch is for /v1/chat/completions"),
        (line(body=[]), "body is not an object"),
        (line(body={"model": "m", "stream": True}), "leave out stream"),
        (line(body={}), "body.model"),
        (line(body={"model": "m", "x": "y" * 1000}), "1000 are allowed"),
    ],
)
def test_a_bad_line_says_why_and_leaves_the_others(given, message):
    text = given if isinstance(given, str) else json.dumps(given)
    bad, good = read(f"{text}\n{json.dumps(line('good'))}\n".encode())
    assert bad.error.startswith("line 1: ")
    assert message in bad.error
    assert good.error is None


def test_a_line_that_needs_stored_responses_is_bad():
    route = "/v1/responses"
    text = json.dumps(line(url=route, body={"model": "m", "previous_response_id": "resp_1"})).encode()
    [bad] = model_lines(iter([text]), route, 1000)
    assert "send the whole conversation" in bad.error


def test_an_id_that_stands_twice_is_bad_the_second_time():
    first, second = read("\n".join([json.dumps(line())] * 2).encode())
    assert first.error is None
    assert (second.custom_id, "before" in second.error) == ("a", True)


def test_a_line_that_is_not_text_is_bad_and_leaves_the_others():
    good = json.dumps(line("good")).encode()
    first, second, third = read(b"\xef\xbb\xbf" + good + b"\n{\xff}\n" + good.replace(b"good", b"last"))
    assert (first.error, third.error) == (None, None)
    assert second.error == "line 2: it is not UTF-8 text"
