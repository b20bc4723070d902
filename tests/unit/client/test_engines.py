"""Arguments of engines as options of their commands."""

import pytest

from openlaunch.client.engines import command_of, engine_of


@pytest.mark.parametrize(
    ("given", "vllm", "sglang"),
    [
        ({"max_model_len": 8192}, ["--max-model-len", "8192"], ["--max-model-len", "8192"]),
        ({"enable_lora": True}, ["--enable-lora"], ["--enable-lora"]),
        ({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"], []),
        ({"dtype": None}, [], []),
        ({"quantization": "awq"}, ["--quantization", "awq"], ["--quantization", "awq"]),
        ({"hf_overrides": {"a": 1}}, ["--hf-overrides", '{"a": 1}'], ["--hf-overrides", '{"a": 1}']),
        (
            {"lora_modules": ["law=/models/law", {"name": "code"}]},
            ["--lora-modules", "law=/models/law", '{"name": "code"}'],
            ["--lora-modules", "law=/models/law", '{"name": "code"}'],
        ),
    ],
)
def test_arguments_become_options(given, vllm, sglang):
    for name, options in (("vllm", vllm), ("sglang", sglang)):
        engine = engine_of(name)
        bare = command_of(engine, "/weights", "chat", {})
        assert command_of(engine, "/weights", "chat", given) == [*bare, *options]
