"""Calls a server by the `scale-llm-engine` package, in an environment that has it: a call of JSON a line.

A call is a class, its method and its arguments. Its outcome is a line of JSON: the answer, or the error.
"""

import json
import sys
from pathlib import Path

import llmengine
from llmengine import data_types


def made(name, value):
    if name == "file":
        return Path(value).open()
    if name == "model_config":
        return data_types.CreateBatchCompletionsModelConfig(**value)
    if name == "content" and isinstance(value, dict):
        return data_types.CreateBatchCompletionsRequestContent(**value)
    if name == "content" and value and "messages" in value[0]:
        return [data_types.FilteredChatCompletionV2Request(**each) for each in value]
    if name == "content" and value:
        return [data_types.FilteredCompletionV2Request(**each) for each in value]
    return value


for line in sys.stdin:
    owner, method, given = json.loads(line)
    call = getattr(getattr(llmengine, owner), method)
    try:
        answer = call(**{name: made(name, value) for name, value in given.items()})
        if given.get("stream"):
            got = [json.loads(piece.json()) for piece in answer]
        else:
            got = answer if isinstance(answer, dict) else json.loads(answer.json())
    except Exception as error:  # its errors have no class in common
        print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
    else:
        print(json.dumps({"answer": got}), flush=True)
