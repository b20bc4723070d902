"""llm-engine's completions as requests of OpenAI's API, and the answers as its client reads them."""

import json
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from openlaunch.errors import BadRequest, Unprocessable
from openlaunch.wire import routes
from openlaunch.wire.batch_completions import GUIDES, CompletionV1Request, Content, Sampling, V1Content
from openlaunch.wire.misfits import said
from openlaunch_worker.frames import Body

MAX_SAID = 2000
"""Characters of an engine's refusal that its client sees."""

_BAD_INPUT, _TOO_MANY, _FAILED = 400, 429, 500


_READ: TypeAdapter[V1Content | list[dict[str, Any]]] = TypeAdapter(Content)


class Lines(NamedTuple):
    """The requests of a content: whether it was prompts alone, their route, and the lines of a batch's input file."""

    is_v1: bool
    route: str
    lines: bytes


def misfit(field: str, text: str) -> Unprocessable:
    """Make the error for a field of a request."""
    errors = [{"loc": ["body", field], "msg": text, "type": "value_error"}]
    return Unprocessable(f"{field}: {text}", errors=errors)


def read_content(data: bytes, model: str) -> Lines:
    """Return the lines for a file with a content; raise Unprocessable where it has none."""
    try:
        content = _READ.validate_python(json.loads(bytes(data)))  # it may be a view
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise misfit("input_data_path", f"the file is not a content: {where}: {said(first)}") from None
    except (ValueError, RecursionError) as error:
        raise misfit("input_data_path", f"the file is not JSON: {error}") from None
    return lines_of_content(content, model)


def lines_of_content(content: V1Content | list[dict[str, Any]], model: str) -> Lines:
    """Return the lines for a content; raise Unprocessable where its requests do not go together."""
    try:
        route, bodies = bodies_of(content)
    except ValueError as error:
        raise misfit("content", str(error)) from None
    lines = [line_of_request(number, model, route, body) for number, body in enumerate(bodies)]
    return Lines(isinstance(content, V1Content), route, b"".join(lines))


def bodies_of(content: V1Content | list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the route and the bodies of the requests. Raise ValueError where it has none that go together."""
    if isinstance(content, V1Content):
        shared = _sampling(content)
        return routes.COMPLETIONS, [{"prompt": prompt, **shared} for prompt in content.prompts]
    found = {"messages" if "messages" in each else "prompt" if "prompt" in each else None for each in content}
    if len(found) != 1 or None in found:
        raise ValueError("all its requests need `messages`, or all of them `prompt`")
    if any(each.get("stream") for each in content):
        raise ValueError("a request has `stream`: nobody listens to a batch")
    route = routes.CHAT_COMPLETIONS if found == {"messages"} else routes.COMPLETIONS
    return route, [_request(each) for each in content]


def body_of(asked: CompletionV1Request, model: str, *, is_stream: bool) -> dict[str, Any]:
    """Return the body of a request to `/v1/completions` for one of llm-engine's first version."""
    more = _without_nulls({"include_stop_str_in_output": asked.include_stop_str_in_output})
    body = {"model": model, "prompt": asked.prompt, **_sampling(asked), **more, **_guides(asked)}
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if is_stream else body


def as_sent(body: Body, model: str, *, is_stream: bool) -> bytes:
    """Return the body that the engine gets. Raise BadRequest where it is not one of llm-engine's."""
    try:
        asked = CompletionV1Request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise BadRequest(f"{where}: {said(first)}", code="invalid_completion") from None
    return json.dumps(body_of(asked, model, is_stream=is_stream)).encode()


def completion_of(status: int, body: Body, request_id: str) -> tuple[int, bytes] | None:
    """Return the status and the body of what an engine has answered; None where it is not a completion."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if status >= _BAD_INPUT:
        text = bytes(body[:MAX_SAID]).decode("utf-8", "replace")
        named = document.get("error") if isinstance(document, dict) else None
        said = named.get("message", text) if isinstance(named, dict) else text
        status = _BAD_INPUT if status < _FAILED and status != _TOO_MANY else status
        return status, orjson.dumps({"detail": str(said)[:MAX_SAID]})
    output = v1_output(document) if isinstance(document, dict) else None
    try:
        return None if output is None else (200, orjson.dumps({"request_id": request_id, "output": output}))
    except orjson.JSONEncodeError:  # it is nested too deep
        return None


def _sampling(asked: Sampling) -> dict[str, Any]:
    return _without_nulls(
        {
            "max_tokens": asked.max_new_tokens,
            "temperature": asked.temperature,
            "stop": asked.stop_sequences,
            "logprobs": 1 if asked.return_token_log_probs else None,
            "presence_penalty": asked.presence_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "top_k": asked.top_k,
            "top_p": asked.top_p,
            "skip_special_tokens": asked.skip_special_tokens,
        }
    )


def _guides(asked: CompletionV1Request) -> dict[str, Any]:
    """Return what guides a completion as vLLM takes it, and as llama.cpp does, which has nothing for expressions.

    Each leaves out what the other takes.
    """
    kinds = _without_nulls({kind: getattr(asked, f"guided_{kind}") for kind in GUIDES})
    guides: dict[str, Any] = {"structured_outputs": kinds} if kinds else {}
    if asked.guided_json is not None:
        guides["json_schema"] = asked.guided_json
    if asked.guided_choice is not None:
        guides["grammar"] = "root ::= " + " | ".join(map(json.dumps, asked.guided_choice))
    if asked.guided_grammar is not None:
        guides["grammar"] = asked.guided_grammar
    return guides


def _request(given: dict[str, Any]) -> dict[str, Any]:
    """Return a request without what the client sends for parameters that were not given."""
    body = _without_nulls({name: value for name, value in given.items() if name not in ("model", "stream")})
    if isinstance(messages := body.get("messages"), list):
        body["messages"] = [_message(each) for each in messages]
    return body


def _message(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    return {name: value for name, value in given.items() if value is not None or name == "content"}


def _without_nulls(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def line_of_request(number: int, model: str, route: str, body: dict[str, Any]) -> bytes:
    """Return a line of a batch's input file."""
    document = {"custom_id": str(number), "method": "POST", "url": route, "body": {**body, "model": model}}
    return json.dumps(document).encode() + b"\n"


def completion_in(line: bytes, *, is_v1: bool) -> bytes | None:
    """Return the engine's answer in a line of a file of answers as llm-engine has it; None where there is none."""
    try:
        body = answer_in(line)
    except RecursionError:
        return None
    return None if body is None else json.dumps(v1_output(body) if is_v1 else body).encode()


def answer_in(line: bytes) -> Any:
    """Return the engine's answer in a line of a file of answers, None in one of errors."""
    document = json.loads(bytes(line))  # it may be a view
    response = document["response"]
    return None if response is None or response["status_code"] >= 400 else response["body"]


def tokens_of(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of a choice with their logarithms of probability; none where they were not asked for."""
    logprobs = choice.get("logprobs") or {"content": []}
    if "content" in logprobs:  # as llama.cpp has them, on this route too
        return [{"token": each["token"], "log_prob": each["logprob"]} for each in logprobs["content"]]
    pairs = zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    return [{"token": token, "log_prob": log_prob} for token, log_prob in pairs]


def v1_output(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return an answer of `/v1/completions` as an output of llm-engine's first version; None where it is not one."""
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        output = {
            "text": choice["text"],
            "num_prompt_tokens": usage.get("prompt_tokens"),
            "num_completion_tokens": usage.get("completion_tokens"),
        }
        if tokens := tokens_of(choice):
            output["tokens"] = tokens
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return output
