"""How engines of language models are started: from a model, a name and arguments to a command."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from openlaunch.errors import Unprocessable
from openlaunch_worker.prefetch_urls import BUCKETS, source_of

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Environment variables by which an engine fetches nothing, because what it serves is there."""

DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1"}
"""The environment variable by which vLLM has the routes that put it to sleep."""

_HOST = ("--host", "127.0.0.1", "--port", "$PORT")

_LLAMACPP = """\
import functools, json, os, pathlib, signal, sys
import xllamacpp
path, name, given = pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
try:
    found = sorted(path.glob("*.gguf"), key=lambda file: ("mmproj" in file.name, file)) if path.is_dir() else [path]
    found[0].open("rb").close()
except (OSError, IndexError):
    sys.exit(f"workers can't read a .gguf file at {path}: is its folder in OPENLAUNCH_SHARED_FOLDERS?")
params = xllamacpp.CommonParams()
params.model.path = str(found[0])
params.port = int(os.environ["PORT"])
params.hostnames = ["127.0.0.1"]
params.model_alias = [name]
params.n_parallel = given.pop("n_parallel", 4)
params.n_ctx = given.pop("n_ctx", 4096 * params.n_parallel)
params.n_ubatch = max(params.n_ubatch // params.n_parallel, 1) * params.n_parallel  # else it aborts with embeddings
params.embedding = given.pop("embedding", True)
params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
params.ui = False
if "n_threads" in given:
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.pop("n_threads")
for key, value in given.items():
    *path_to, last = key.split(".")
    try:
        holder = functools.reduce(getattr, path_to, params)
        getattr(holder, last)
    except AttributeError:
        sys.exit(f"engine_args has {key!r}, which is not a parameter of llama.cpp")
    setattr(holder, last, value)
server = xllamacpp.Server(params)
print(f"serving {found[0]}", flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
"""


class Engine(NamedTuple):
    """The command that starts an engine, in which `$MODEL`, `$NAME` and `$PORT` are replaced, and what it needs."""

    command: Sequence[str]
    requirements: Sequence[str] = ()
    takes_json: bool = False
    """Whether arguments are one of JSON, behind the command; else they are options such as --max-model-len."""
    says_no: bool = False
    """Whether an option that is off is written, as --no-enable-prefix-caching; else it is left out."""


ENGINES = {
    "llamacpp": Engine(("python", "-c", _LLAMACPP, "$MODEL", "$NAME"), ("xllamacpp",), takes_json=True),
    "vllm": Engine(
        ("vllm", "serve", "$MODEL", "--served-model-name", "$NAME", *_HOST), ("vllm",), says_no=True
    ),
    "sglang": Engine(
        (
            "python",
            "-m",
            "sglang.launch_server",
            "--model-path",
            "$MODEL",
            "--served-model-name",
            "$NAME",
            *_HOST,
        ),
        ("sglang",),
    ),
}


def engine_of(engine: str | Sequence[str]) -> Engine:
    """Return the engine of a name, or one that is a command; raise Unprocessable for an unknown name."""
    if not isinstance(engine, str):
        return Engine(list(engine))
    if engine not in ENGINES:
        raise Unprocessable(
            f"engine: {engine!r} is unknown: give {', '.join(sorted(ENGINES))}, or a command as a list, in which "
            "$MODEL, $NAME and $PORT are replaced"
        )
    return ENGINES[engine]


def sleeping(engine: Engine, named: str | Sequence[str]) -> Engine:
    """Return an engine that has vLLM's sleep mode; raise Unprocessable for one that has other routes, or none."""
    if named == "vllm":
        return engine._replace(command=(*engine.command, "--enable-sleep-mode"))
    if isinstance(named, str):
        raise Unprocessable(
            f"sleeps: the engine {named!r} does not have vLLM's sleep routes: leave it out, or give vllm or a "
            "command that has them"
        )
    return engine


def command_of(engine: Engine, model: str, name: str, args: Mapping[str, Any]) -> list[str]:
    """Return the command that serves a model under this name; `$PORT` is replaced where it runs."""
    filled = [part.replace("$MODEL", model).replace("$NAME", name) for part in engine.command]
    if engine.takes_json:
        return [*filled, json.dumps(args, sort_keys=True)]
    for key, value in args.items():
        option = key.replace("_", "-")
        if value is True:
            filled.append(f"--{option}")
        elif value is False:
            filled += [f"--no-{option}"] if engine.says_no else []
        elif value is not None:
            each = value if isinstance(value, list | tuple) else [value]
            filled += [f"--{option}", *(part if isinstance(part, str) else json.dumps(part) for part in each)]
    return filled


def folder_of(model: str) -> tuple[str, list[str]]:
    """Return where a model lies on the machines of the workers, and what is prefetched for that.

    Raise Unprocessable for what is not a place there, and can't be brought to one.
    """
    parts = urlsplit(model)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return unquote(parts.path), []
    if parts.scheme in ("hf", "https", *BUCKETS):
        try:
            return f"$OPENLAUNCH_CACHE/{source_of(model).place}", [model]
        except ValueError as error:
            raise Unprocessable(f"model: {error}") from None
    raise Unprocessable(
        f"model: {model[:200]!r} is neither hf://ORG/REPO@REVISION, s3://BUCKET/KEY, gs://, az:// nor https://, from "
        "where weights are fetched into the cache, nor file:///PATH, a file or folder that workers see"
    )
