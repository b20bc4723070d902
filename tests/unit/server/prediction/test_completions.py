"""llm-engine's completions as requests of OpenAI's API, and engines' answers as its client reads them."""

import json

import pytest

from openlaunch.errors import BadRequest
from openlaunch.server.prediction.completions import as_sent, v1_output

ASKED = {"prompt": "x", "max_new_tokens": 3, "temperature": 0.5}


def sent(**given):
    return json.loads(as_sent(json.dumps(ASKED | given).encode(), "m", is_stream=False))


@pytest.mark.parametrize(
    ("kind", "value", "of_llamacpp"),
    [
        ("json", {"type": "object"}, {"json_schema": {"type": "object"}}),
        ("choice", ["yes", 'a "no"'], {"grammar": 'root ::= "yes" | "a \\"no\\""'}),
        ("grammar", 'root ::= "a"', {"grammar": 'root ::= "a"'}),
        ("regex", "a+", {}),
    ],
)
def test_what_guides_a_completion_is_sent_as_each_engine_takes_it(kind, value, of_llamacpp):
    assert sent(**{f"guided_{kind}": value}) == sent() | of_llamacpp | {"structured_outputs": {kind: value}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guided_json": {}, "guided_regex": "a"}, "give only one of guided_json"),
        ({"temperature": 0, "top_k": 3}, "leave them out"),
        ({"temperature": 0, "top_p": 0.5}, "leave them out"),
    ],
)
def test_what_does_not_go_together_is_refused(given, words):
    with pytest.raises(BadRequest, match=words):
        sent(**given)
    assert sent(temperature=0, top_k=-1, top_p=1)["temperature"] == 0


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": ["a", "b"], "token_logprobs": [-0.5, -1.5], "top_logprobs": [{}, {}]},
        {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]},
    ],
)
def test_tokens_are_read_as_vllm_and_as_llamacpp_say_them(logprobs):
    output = v1_output({"choices": [{"text": "ab", "logprobs": logprobs}]})
    assert output is not None
    assert output["tokens"] == [{"token": "a", "log_prob": -0.5}, {"token": "b", "log_prob": -1.5}]
