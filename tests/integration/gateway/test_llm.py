"""Language models by one call: a real engine with a tiny model, and engines that are commands."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from http_service import http_service
from hub_driver import Hub
from openai_driver import DATA, ROUTES, openai_client, python
from server_driver import SMALL, http

from openlaunch import aio
from openlaunch.client.engines import engine_of, sleeping
from openlaunch.errors import (
    Conflict,
    EndpointFailed,
    NotFound,
    ServerError,
    StreamInterrupted,
    Unprocessable,
)

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "chat.completions.create"
LISTS = "import os,sys,runpy; del sys.argv[0]; os.listdir(sys.argv[1]); runpy.run_path(sys.argv[0])"
"""Begins an engine that is a file, if its model is a folder that is there."""
MOCK = ["python", str(DATA / "mock_engine" / "mock_engine.py"), "$MODEL"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    folder.chmod(0o755)  # workers may run as another user
    return folder


def test_weights_are_fetched_from_a_hub(client):
    kind = type("OwnHub", (Hub,), {"seen": [], "files": {"weights.json": b"{}"}})
    with http_service(kind) as service:
        endpoint = client.deploy_llm(
            "fetched",
            model="hf://org/model@v1",
            engine=["python", "-c", LISTS, *MOCK[1:]],
            env={"HF_ENDPOINT": f"http://127.0.0.1:{service.server_port}"},
            show_progress=False,
            timeout=60,
            **SMALL,
        )
    assert endpoint.status() == "READY"
    assert [path for path, _ in kind.seen if path.endswith("/weights.json")]


def mock(client, name, folder, **options):
    """Deploy an engine that is a command."""
    return client.deploy_llm(
        name, model=f"file://{folder}", engine=MOCK, show_progress=False, timeout=60, **SMALL, **options
    )


def test_an_engine_is_deployed_and_answers(client, folder):
    endpoint = mock(client, "mocked", folder)
    assert endpoint.status() == "READY"
    assert client.chat_llm("mocked", HELLO, options={"max_tokens": 2}) == " token token"
    assert "mocked" in [model["id"] for model in client.list_llms()]
    with pytest.raises(NotFound, match="near names: mocked"):
        client.chat_llm("mocke", HELLO)


def test_an_engine_that_can_sleep_is_deployed_so(client, folder):
    endpoint = mock(client, "sleeps", folder, sleeps=True).model_endpoint
    flavor = client.get_model_bundle_v2(endpoint.bundle_id).flavor
    assert flavor.sleep.sleep_route == "/sleep?level=1"
    assert flavor.env["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--enable-sleep-mode" in sleeping(engine_of("vllm"), "vllm").command
    assert mock(client, "sleeps", folder, sleeps=True).model_endpoint.bundle_id == endpoint.bundle_id


def test_what_is_the_same_is_not_deployed_again(client, folder):
    first = mock(client, "again", folder).model_endpoint
    assert mock(client, "again", folder).model_endpoint.bundle_id == first.bundle_id
    changed = mock(client, "again", folder, requirements=["orjson"]).model_endpoint
    assert changed.bundle_id != first.bundle_id
    client.deploy(lambda x: x, name="taken", **SMALL)
    with pytest.raises(Conflict):
        mock(client, "taken", folder)


def test_an_engine_that_ends_while_it_loads_says_what_it_printed(client, folder):
    with pytest.raises(EndpointFailed, match="the weights are not to be found"):
        mock(client, "failing", folder, env={"FAIL": "1"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vlm"}, "llamacpp, sglang, vllm"),
        ({"model": "hf://repo"}, "hf://ORG/REPO"),
        ({"model": "/models/chat.gguf"}, "file:///PATH"),
        ({"model_routes": ["chat"]}, "routes"),
        ({"model_routes": []}, "model_routes: it is empty"),
        ({"sleeps": True}, "sleeps: the engine 'llamacpp' does not have vLLM's sleep routes"),
    ],
)
def test_what_can_not_be_served_is_refused_before_anything_is_made(client, options, message):
    options = {"model": "file:///models/chat.gguf", "engine": "llamacpp", **options}
    with pytest.raises(Unprocessable, match=message):
        client.deploy_llm("refused", **options)
    assert "refused" not in [endpoint.name for endpoint in client.list_model_endpoints()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Path("/models/chat.gguf")}, "model is .*file:///"),
        ({"engine": None}, "engine is"),
        ({"engine": ["my-engine", 8000]}, "engine has 8000"),
        ({"engine_args": "n_ctx=1"}, "engine_args is 'n_ctx=1'"),
        ({"requirements": "vllm"}, "requirements is 'vllm'"),
        ({"model_routes": ROUTES[0]}, f"model_routes is '{ROUTES[0]}'"),
        ({"aliases": "gpt-4"}, "aliases is 'gpt-4'"),
    ],
)
def test_what_has_another_type_is_named(client, options, message):
    options = {"model": "file:///models/chat.gguf", "engine": "llamacpp", **options}
    with pytest.raises(TypeError, match=message):
        client.deploy_llm("refused", **options)


def test_an_answer_comes_in_pieces_and_is_never_cut_in_silence(client, folder):
    mock(client, "in-pieces", folder, per_worker=1)
    with client.stream_chat_llm("in-pieces", HELLO, options={"max_tokens": 4}) as texts:
        assert list(texts) == [" token"] * 4
    with pytest.raises(NotFound, match="near names: in-pieces"):
        client.stream_chat_llm("in-piece", HELLO)
    with client.stream_chat_llm("in-pieces", HELLO, options={"max_tokens": 1_000_000}) as texts:
        assert next(texts) == " token"
    # The only slot is free again, because the engine has stopped.
    with client.stream_chat_llm("in-pieces", HELLO, options={"fault": "exit"}) as texts:
        assert [next(texts) for _ in range(3)] == [" token"] * 3
        with pytest.raises(StreamInterrupted, match=r"the model has failed: .*cut short"):
            next(texts)


def test_the_awaitable_client_has_an_answer_in_pieces_too(client, folder):
    mock(client, "awaited", folder)

    async def texts_of_answer():
        async with (
            aio.LaunchClient(client.server.api_key, client.server.url) as twin,
            await twin.stream_chat_llm("awaited", HELLO, options={"max_tokens": 4}) as texts,
        ):
            return [text async for text in texts]

    assert asyncio.run(texts_of_answer()) == [" token"] * 4


def test_the_command_prints_an_answer_while_it_comes(client, folder):
    mock(client, "prints", folder)
    command = ("llm", "chat", "prints", "hello", "--max-tokens")
    assert cli(client, *command, "3") == " token token token\n"
    process = subprocess.Popen(
        [sys.executable, "-m", "openlaunch.cli", *command, "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(client),
    )
    with process:
        assert process.stdout.read(12) == b" token token"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_what_is_no_chat_is_an_error_that_says_so(client, folder):
    mock(client, "streams", folder)
    with pytest.raises(ServerError, match=r"'streams' has answered with what is not a chat.*b'data: "):
        client.chat_llm("streams", HELLO, options={"stream": True})


def environ(client):
    return {"OPENLAUNCH_URL": client.server.url, "OPENLAUNCH_API_KEY": client.server.api_key}


def cli(client, *command):
    done = subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", *command],
        capture_output=True,
        text=True,
        env=environ(client),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_names_the_routes_of_an_engine(client):
    command = (
        "llm",
        "deploy",
        "routed",
        "--engine",
        "llamacpp",
        "--model",
        "file:///none.gguf",
        "--route",
        "chat",
    )
    done = subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", *command],
        capture_output=True,
        text=True,
        env=environ(client),
    )
    assert (done.returncode, "routes" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_a_real_engine_speaks_to_the_openai_package(client, folder):
    model = folder / "tiny.gguf"
    subprocess.run([python(), str(DATA / "tiny_gguf.py"), str(model)], check=True)
    arguments = ["--engine", "llamacpp", "--model", f"file://{model}", "--engine-arg", "n_threads=1"]
    arguments += ["--engine-arg", "n_parallel=3", "--engine-arg", "sampling.top_k=40"]
    said = cli(client, "llm", "deploy", "tiny", *arguments, "--cpus", "0.5", "--memory", "512Mi")
    assert said.strip() == "tiny is READY"
    assert (
        json.loads(cli(client, "llm", "chat", "tiny", "hello", "--max-tokens", "5", "--json"))["model"]
        == "tiny"
    )
    assert "tiny" in cli(client, "llm", "list")
    with openai_client(client.server.url, client.server.api_key) as call:
        given = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "temperature": 0, "seed": 1}
        whole = call(CHAT, **given)["answer"]
        assert whole["usage"]["completion_tokens"] <= 20
        streamed = call(CHAT, stream=True, stream_options={"include_usage": True}, **given)
        text = "".join(c["delta"]["content"] or "" for chunk in streamed["chunks"] for c in chunk["choices"])
        # Bytes at the end that are not UTF-8 are held back.
        assert whole["choices"][0]["message"]["content"].startswith(text)
        assert streamed["chunks"][-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        logprobs = call(CHAT, logprobs=True, top_logprobs=2, **given)["answer"]["choices"][0]["logprobs"]
        assert len(logprobs["content"]) > 0
        schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        formed = call(CHAT, response_format=form, **given | {"max_tokens": 200})["answer"]
        assert json.loads(formed["choices"][0]["message"]["content"]) == {"a": 1}
        done = call("completions.create", model="tiny", prompt="hello", max_tokens=4, stop=["x"])
        assert done["answer"]["object"] == "text_completion"
        embedded = call("embeddings.create", model="tiny", input=["hello", "world"], encoding_format="float")
        assert [len(each["embedding"]) for each in embedded["answer"]["data"]] == [64, 64]
        asked = {"prompt": "x", "max_new_tokens": 20, "temperature": 0.5, "return_token_log_probs": True}
        with http(client) as raw:
            completed = raw.post(
                "/v1/llm/completions-sync",
                params={"model_endpoint_name": "tiny"},
                json={**asked, "guided_choice": ["yes", "no"]},
            ).json()["output"]
        assert completed["text"] in ("yes", "no")
        assert "".join(each["token"] for each in completed["tokens"]) == completed["text"]
        refused = call(CHAT, model="tiny", messages="hello")["error"]
        assert refused["status"] in (400, 500)
