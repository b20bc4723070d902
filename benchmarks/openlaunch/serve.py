"""A server with one endpoint: `serve.py KIND`, where KIND is a key of MODELS."""

import os
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
ROUTES = {"sync": "sync-tasks", "async": "async-tasks", "streaming": "streaming-tasks"}


def main() -> None:
    function, kind, per_worker, *settings = MODELS[sys.argv[1]]
    with openlaunch.local() as client:
        endpoint = client.deploy(
            function,
            name="null",
            endpoint_type=kind,
            per_worker=per_worker,
            min_workers=1,
            max_workers=1,
            cpus=0.1,
            memory="64Mi",
            **(settings[0] if settings else {}),
        )
        url = f"{client.server.url}/v1/{ROUTES[kind]}?model_endpoint_id={endpoint.model_endpoint.id}"
        with open(os.environ["BENCH_READY"] + ".new", "w") as file:
            file.write(f"{url}\nAuthorization: Bearer {client.server.api_key}\n")
        os.rename(file.name, os.environ["BENCH_READY"])
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        stopped.wait()


if __name__ == "__main__":
    main()
