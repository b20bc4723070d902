"""Calls a server by the `openai` package, in an environment that has it: a call of JSON a line, its outcome a line.

`python openai_caller.py BASE_URL KEY`. A call is the path of a method of the client, and its arguments.
"""

import json
import sys
from functools import reduce

import openai


def outcome(client, method, given):
    options = {name: given.pop(name) for name in ("timeout", "key") if name in given}
    if "file" in given:
        given["file"] = ("lines.jsonl", given["file"].encode())
    if "key" in options:
        client = client.with_options(api_key=options["key"])
    elif options:
        client = client.with_options(**options)
    made = {"chunks": [], "error": None}
    try:
        answer = reduce(getattr, method.split("."), client)(**given)
        if method.endswith(".stream"):
            with answer as events:
                made["chunks"] += [event.model_dump() for event in events]
                made["answer"] = events.get_final_response().model_dump()
        elif given.get("stream"):
            for chunk in answer:  # one after the other: the next may be an error
                made["chunks"].append(chunk.model_dump())
        elif hasattr(answer, "model_dump"):
            made["answer"] = answer.model_dump()
        elif hasattr(answer, "text"):
            made["answer"] = answer.text
        made["request_id"] = getattr(answer, "_request_id", None)
    except openai.OpenAIError as error:
        status = getattr(error, "status_code", None)
        made["error"] = {"kind": type(error).__name__, "message": str(error), "status": status}
        made["error"] |= {name: getattr(error, name, None) for name in ("code", "type", "param")}
    return made


url, key = sys.argv[1:]
caller = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
print(json.dumps({"version": openai.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(outcome(caller, *json.loads(line))), flush=True)
