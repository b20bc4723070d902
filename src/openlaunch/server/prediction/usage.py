"""How many tokens a request of a model took, as its engine says: read from the bytes of the answer's end."""

import json
import re
from typing import Any, NamedTuple

from openlaunch.wire import routes
from openlaunch_worker.frames import Body

MARK = b'_tokens"'
"""What is in the JSON of a usage, and never in that of a text, where a backslash is before the quotation mark."""

_NAME = b'"usage"'
_USAGE = re.compile(_NAME + rb"\s*:\s*(?=\{)")
_MAX_LOOKS = 100
"""How many places of the name are looked at, from the end."""

_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_EVENT_END = re.compile(rb"(?:\r\n\r\n|\n\n|\r\r)")
_MAX_USAGE = 16384
MAX_TOKENS = 2**24
"""More of a request are not believed: an engine that lies could block a key and its owner for years."""

BYTES_OF_A_TOKEN = 4
"""What an estimate takes a token for."""

_TEXT = (routes.CHAT_COMPLETIONS, routes.COMPLETIONS, routes.RESPONSES, routes.MESSAGES)
_READ = (*_TEXT, routes.EMBEDDINGS, routes.RERANK, routes.SCORE)
_decode = json.JSONDecoder().raw_decode


class TokenUsage(NamedTuple):
    """Tokens of a prompt and of the answer; of them, those from the engine's cache and those of its reasoning."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output

    def most(self, other: "TokenUsage") -> "TokenUsage":
        """Return the larger of each number: engines say them more than once, and some of them at the beginning."""
        return TokenUsage(*map(max, self, other))

    def plus(self, other: "TokenUsage") -> "TokenUsage":
        """Return the sum of each number."""
        return TokenUsage(*map(sum, zip(self, other, strict=True)))


NOTHING = TokenUsage()


def usage_in(data: Body) -> TokenUsage:
    """Return the last usage in these bytes of JSON, or of events; of none, `NOTHING`."""
    at, found = len(data), None
    for _ in range(_MAX_LOOKS):
        at = data.rfind(_NAME, 0, at)
        if at < 0 or (found := _USAGE.match(data, at)) is not None:
            break
    if found is None:
        return NOTHING
    start = found.end()
    try:
        document, _ = _decode(bytes(data[start : start + _MAX_USAGE]).decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return NOTHING
    cached = _detail(document, "prompt_tokens_details", "input_tokens_details", "cached_tokens")
    # As Anthropic's API has it, what is from the cache, or goes there, stands beside the rest of the input.
    from_cache = document.get("cache_read_input_tokens")
    if (prompt := document.get("prompt_tokens")) is None:
        to_cache = document.get("cache_creation_input_tokens")
        prompt = _number(document.get("input_tokens")) + _number(from_cache) + _number(to_cache)
    return TokenUsage(
        _number(prompt),
        _number(document.get("completion_tokens", document.get("output_tokens"))),
        _number(cached or from_cache),
        _number(_detail(document, "completion_tokens_details", "output_tokens_details", "reasoning_tokens")),
    )


def _detail(document: dict[str, Any], of_chats: str, of_responses: str, name: str) -> Any:
    """Return one of the details of a usage, which some engines say beside the sums."""
    details = document.get(of_chats) or document.get(of_responses) or document
    return details.get(name) if type(details) is dict else 0


def _number(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0


def estimate(route: str, request: int, answer: int) -> TokenUsage:
    """Return the tokens of a request whose engine says nothing, by the bytes of it and of its answer.

    Of routes whose bytes are not text nothing is known.
    """
    return TokenUsage(
        request // BYTES_OF_A_TOKEN if route in _READ else 0,
        answer // BYTES_OF_A_TOKEN if route in _TEXT else 0,
    )


def without_usage_event(events: bytes) -> bytes:
    """Leave out the events that have a usage and no choice, which were asked for in the caller's place."""
    kept, at = [], 0
    for end in _EVENT_END.finditer(events):
        event = events[at : end.end()]
        if event.find(MARK) < 0 or _NO_CHOICES.search(event) is None:
            kept.append(event)
        at = end.end()
    return b"".join([*kept, events[at:]])
