"""A server with one endpoint: `serve.py KIND`, where KIND is a key of MODELS, or "models"."""

import os
import pathlib
import signal
import sys
import threading

import digits

import openlaunch


def predict(x: int, y: str):
    return x * 2 + len(y)


async def predict_async(x: int, y: str):
    return x * 2 + len(y)


def chunks(x: int, y: str):
    for i in range(100):
        yield {"i": i}


async def chunks_async(x: int, y: str):
    for i in range(100):
        yield {"i": i}


def classify(model, image: list[float]):
    return digits.classify(model, [image])[0]


def classify_many(model, inputs: list[dict[str, list[float]]]):
    return digits.classify(model, [one["image"] for one in inputs])


DIGITS = {"load_model_fn": digits.load, "requirements": ["scikit-learn"]}
MODELS = {
    "async-def": (predict_async, "sync", 8),
    "def": (predict, "sync", 8),
    "queue": (predict_async, "async", 64),
    "queue-def": (predict, "async", 8),
    "stream": (chunks, "streaming", 16),
    "stream-async": (chunks_async, "streaming", 16),
    # One at a time: two would but share the interpreter.
    "digits": (classify, "sync", 1, DIGITS),
    "digits-batched": (classify_many, "sync", 1, {**DIGITS, "max_batch_size": 32, "max_batch_wait": 0.005}),
}
ENGINE = pathlib.Path(__file__).parents[1] / "models" / "engine.py"
ONE_SMALL = {"min_workers": 1, "max_workers": 1, "cpus": 0.1, "memory": "64Mi"}
ROUTES = {"sync": "sync-tasks", "async": "async-tasks", "streaming": "streaming-tasks"}


def serve_null(client) -> str:
    """Deploy one of MODELS, and return its URL."""
    function, kind, per_worker, *settings = MODELS[sys.argv[1]]
    endpoint = client.deploy(
        function,
        name="null",
        endpoint_type=kind,
        per_worker=per_worker,
        **ONE_SMALL,
        **(settings[0] if settings else {}),
    )
    return f"/v1/{ROUTES[kind]}?model_endpoint_id={endpoint.model_endpoint.id}"


def serve_engine(client) -> str:
    """Deploy the engine of models/, and return its URL."""
    client.deploy_llm(
        "bench",
        model=f"file://{ENGINE.parent}",
        engine=["python", "$MODEL/engine.py"],
        requirements=["uvloop"],
        per_worker=256,
        **ONE_SMALL,
    )
    return "/v1/chat/completions"


def main() -> None:
    with openlaunch.local() as client:
        path = serve_engine(client) if sys.argv[1] == "models" else serve_null(client)
        with open(os.environ["BENCH_READY"] + ".new", "w") as file:
            file.write(f"{client.server.url}{path}\nAuthorization: Bearer {client.server.api_key}\n")
        os.rename(file.name, os.environ["BENCH_READY"])
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        stopped.wait()


if __name__ == "__main__":
    main()
