"""`openlaunch llm`."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from openlaunch.cli.connection import connect
from openlaunch.cli.endpoints import Timeout, Wait
from openlaunch.cli.inputs import pairs
from openlaunch.cli.output import Json, as_printed, emit, emit_rows, note, say_status, waiting, when
from openlaunch.cli.settings import given, with_settings

app = typer.Typer(help="Language models: endpoints that speak OpenAI.", no_args_is_help=True)

_DEFAULTS = {"per_worker": "4"}

Name = Annotated[str, typer.Argument(help="The endpoint's name, which is the model's too.")]


@app.command("deploy")
@with_settings(defaults=_DEFAULTS)
def deploy_llm(
    context: typer.Context,
    name: Name,
    model: Annotated[
        str,
        typer.Option(
            help="The weights: hf://ORG/REPO@REVISION, s3://BUCKET/KEY, gs://, az:// or https://, which are fetched "
            "into the cache, or file:///PATH of a file or folder that workers see."
        ),
    ],
    engine: Annotated[str, typer.Option(help="llamacpp, vllm or sglang.")] = "vllm",
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Such as max_model_len=8192; may be given several times."),
    ] = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REQUIREMENT",
            help="Such as vllm==0.11.0; may be given several times.  [default: the engine]",
        ),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Route of OpenAI's API that the engine serves, such as /v1/responses; may be given several times."
            "  [default: chats, completions and embeddings]",
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further name of the model; may be given several times."),
    ] = None,
    sleeps: Annotated[
        bool,
        typer.Option(
            "--sleeps",
            help="Have workers sleep while others need their GPUs, in place of ending; vLLM can do that.",
        ),
    ] = False,
    wait: Wait = True,
    timeout: Timeout = 1800,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Serve a language model, or update the endpoint of that name, which keeps the settings that are not given.

    Its engine, with arguments and requirements, its routes and its aliases are those of the command: give them again.

    For example `openlaunch llm deploy chat --engine llamacpp --model file:///models/chat.gguf`.
    """
    from openlaunch.client.operations.llm import DEFAULT_ROUTES  # help and version need no client

    args = {key: _value(value) for key, value in pairs(engine_arg or [], "--engine-arg").items()}
    look = f"openlaunch endpoints get {name}"
    with connect(context) as client, waiting(f"deploying {name} …", look) as update:
        endpoint = client.deploy_llm(
            name,
            model=model,
            engine=engine,
            engine_args=args,
            requirements=requirement,
            model_routes=route or DEFAULT_ROUTES,
            aliases=alias or (),
            sleeps=sleeps,
            wait=wait,
            timeout=timeout,
            on_status=say_status(update),
            **given(settings),
        )
    described = endpoint.model_endpoint
    emit(described, as_json, lambda: print(f"{described.name} is {described.status.value}"))
    note(f"try it: openlaunch llm chat {name} 'Hello!'")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@app.command("list")
def list_llms(context: typer.Context, as_json: Json = False) -> None:
    """List the models that your key may use."""
    with connect(context) as client:
        models = client.list_llms()
    emit_rows(models, as_json, ("MODEL", "OWNER", "CREATED"), _row)


def _row(model: dict[str, Any]) -> tuple[object, ...]:
    return model["id"], model["owned_by"], when(datetime.fromtimestamp(model["created"], UTC))


@app.command("chat")
def chat_llm(
    context: typer.Context,
    name: Name,
    message: Annotated[str, typer.Argument(help="What to say to it.")],
    system: Annotated[str | None, typer.Option(help="What the model is to be.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Say something to a model, and print its answer as it comes; with --json, once it is whole."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": message})
    options = {} if max_tokens is None else {"max_tokens": max_tokens}
    with connect(context) as client:
        if as_json:
            text = client.chat_llm(name, messages, options=options)
            emit({"model": name, "content": text}, as_json, lambda: None)
            return
        with client.stream_chat_llm(name, messages, options=options) as texts:
            for text in texts:
                print(as_printed(text), end="", flush=True)
        print()
