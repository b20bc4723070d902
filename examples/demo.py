"""What `make demo` shows: real models behind all three kinds of endpoint, and what failures look like.

It starts a server of its own with a temporary data directory, works through the public client only, and exits
non-zero if anything that it shows did not happen.
"""

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import sklearn
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

import openlaunch
from openlaunch import AsyncEndpoint, EndpointRequest, LaunchClient, StreamingEndpoint, SyncEndpoint, errors

SKLEARN = f"scikit-learn=={sklearn.__version__}"
SECONDS = 120.0
"""How long anything may take before the demo gives up."""

console = Console(highlight=False)


# The models: plain functions. They run in workers, each in the environment that its bundle asks for.


def train_digits() -> Any:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.svm import SVC

    images, _, digits, _ = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    return SVC(gamma=0.001).fit(images, digits)


def classify(model: Any, pixels: list[float]) -> int:
    return int(model.predict([pixels])[0])


ORDER = 7


def train_text() -> dict[str, str]:
    """Return all the characters that follow each few characters in Python's own documentation."""
    from pydoc_data.topics import topics

    text = " ".join(" ".join(topics.values()).split())
    followers: dict[str, str] = {}
    for start in range(len(text) - ORDER):
        context = text[start : start + ORDER]
        followers[context] = followers.get(context, "") + text[start + ORDER]
    return followers


def write_text(model: dict[str, str], prompt: str, length: int, seed: int) -> Iterator[str]:
    import random

    choose = random.Random(seed).choice
    context = prompt[-ORDER:]
    for _ in range(length):
        character = choose(model.get(context, " "))
        yield character
        context = context[1:] + character


def divide(a: float, b: float) -> float:
    return a / b


def die_once(marker: str) -> str:
    """Kill the worker in the first attempt, which leaves the file; return the folder of the next one's worker."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return Path.cwd().parent.name
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


def load_missing_weights() -> Any:
    return Path("weights-that-nobody-put-here.bin").read_bytes()


# The tour.


def show_sync(client: LaunchClient) -> None:
    headline("1. sync: a scikit-learn classifier of handwritten digits")
    began = time.perf_counter()
    with console.status("the environment is built, the model is trained …"):
        endpoint = client.deploy(
            classify, name="digits", load_model_fn=train_digits, requirements=[SKLEARN], cpus=0.5
        )
    tell(f"deployed with its own environment ({SKLEARN}) in {time.perf_counter() - began:.1f} s")
    check(isinstance(endpoint, SyncEndpoint), "the endpoint is a SyncEndpoint")
    images, truth = held_out_digits()
    predicted, seconds = [], []
    for image in images:
        start = time.perf_counter()
        predicted.append(endpoint.predict(EndpointRequest(args={"pixels": image})).value)
        seconds.append(time.perf_counter() - start)
    accuracy = accuracy_score(truth, predicted)
    tell(f"accuracy on {len(images)} held-out images: {accuracy:.3f}")
    tell(f"latency: median {statistics.median(seconds) * 1000:.2f} ms, p99 {p99(seconds) * 1000:.2f} ms")
    check(accuracy > 0.95, "the accuracy is above 0.95")


def held_out_digits() -> tuple[list[list[float]], list[int]]:
    _, images, _, digits = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    return images.tolist(), digits.tolist()


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def show_async(client: LaunchClient) -> None:
    headline("2. async: the same bundle, woken from zero workers")
    endpoint = client.create_model_endpoint(
        endpoint_name="digits-async",
        model_bundle=client.get_latest_model_bundle_v2("digits").id,
        endpoint_type="async",
        min_workers=0,
        max_workers=1,
        per_worker=4,
        cpus=0.5,
    )
    endpoint = client.get_model_endpoint("digits-async").wait_until_ready(SECONDS)
    state = endpoint.deployment_state()
    check(isinstance(endpoint, AsyncEndpoint), "the endpoint is an AsyncEndpoint")
    check(state.available_workers == 0, "there is no worker before the first request")
    images, truth = held_out_digits()
    requests = [EndpointRequest(args={"pixels": image}) for image in images[:200]]

    began = time.perf_counter()
    endpoint.predict(requests[0]).get(SECONDS).raise_for_status()
    tell(f"from zero workers to the first result: {time.perf_counter() - began:.2f} s")

    began = time.perf_counter()
    futures = endpoint.predict_many(requests)
    expected = {future.async_task_id: digit for future, digit in zip(futures, truth, strict=False)}
    right = 0
    with Progress(console=console, transient=True) as progress:
        for future in progress.track(openlaunch.as_completed(futures, SECONDS), total=len(futures)):
            right += future.get().value == expected[future.async_task_id]
    seconds = time.perf_counter() - began
    tell(f"{len(futures)} tasks, {right} of them right: {len(futures) / seconds:,.0f} tasks/s")
    check(len(futures) == 200, "200 tasks were done")
    check(right > 0.95 * len(futures), "the results belong to their requests")


def show_streaming(client: LaunchClient) -> None:
    headline("3. streaming: a character-level model of Python's own documentation")
    endpoint = client.deploy(write_text, name="writer", load_model_fn=train_text, cpus=0.5)
    check(isinstance(endpoint, StreamingEndpoint), "the endpoint is a StreamingEndpoint")
    prompt = "The object is "
    written, arrivals = "", []
    console.print(f"   {prompt}", style="dim", end="")
    with endpoint.predict(EndpointRequest(args={"prompt": prompt, "length": 300, "seed": 7})) as stream:
        for response in stream:
            arrivals.append(time.perf_counter())
            console.print(escape(response.value), end="", soft_wrap=True)
            written += response.value
    console.print()
    longest = max(after - before for before, after in pairwise(arrivals))
    tell(f"{len(arrivals)} items, each as it came; the longest pause was {longest * 1000:.1f} ms")
    check(len(written) == 300, "300 characters were written")


def show_failures(client: LaunchClient, shared: Path) -> None:
    headline("4. failures, as a user meets them")
    show_raising_model(client)
    show_killed_worker(client, shared)
    show_unloadable_bundle(client)


def show_raising_model(client: LaunchClient) -> None:
    tell("a model that raises:")
    response = client.deploy(divide, name="divide", cpus=0.5).predict(EndpointRequest(args={"a": 1, "b": 0}))
    quote(response.traceback)
    check(response.status == "FAILURE", "the response is a FAILURE")
    check("ZeroDivisionError" in (response.traceback or ""), "the response has the model's traceback")


def show_killed_worker(client: LaunchClient, shared: Path) -> None:
    tell("a worker that is killed with -9 in the middle of an async task:")
    endpoint = client.deploy(die_once, name="die-once", endpoint_type="async", cpus=0.5)
    marker = shared / "attempt"
    began = time.perf_counter()
    survivor = endpoint.predict(EndpointRequest(args={"marker": str(marker)})).get(SECONDS).value
    quote(f"the task ended its first worker; {survivor} completed it")
    quote(f"{time.perf_counter() - began:.2f} s in all")
    check(marker.exists(), "the task was started twice")


def show_unloadable_bundle(client: LaunchClient) -> None:
    tell("a bundle that can't load:")
    try:
        client.deploy(divide, name="broken", load_model_fn=load_missing_weights, cpus=0.5)
    except errors.EndpointFailed as error:
        quote(str(error))
    endpoint = client.get_model_endpoint("broken").model_endpoint
    check(endpoint.status == "UPDATE_FAILED", "the endpoint's status is UPDATE_FAILED")
    check("FileNotFoundError" in (endpoint.status_reason or ""), "the status says why")


# Small things.


def headline(text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/bold]")


def tell(text: str) -> None:
    console.print(f"   {escape(text)}")


def quote(text: str | None) -> None:
    for line in (text or "").rstrip().splitlines():
        console.print(f"     | {escape(line)}", style="dim", soft_wrap=True)


def check(happened: bool, what: str) -> None:
    if not happened:
        raise SystemExit(f"the demo failed: it is not so that {what}")


def processes_below(parent: int) -> list[int]:
    """Return the children of a process, where /proc shows them; empty elsewhere."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o777)  # the workers of a server of root are another user
        os.environ["OPENLAUNCH_SHARED_FOLDERS"] = shared  # each worker has a temporary folder of its own
        show(Path(shared))


def show(shared: Path) -> None:
    with openlaunch.local() as client:
        tell(f"server at {client.server.url}, data in {client.server.data_dir}")
        tell("its page while this runs, by a link for once (longer: make demo-page):")
        print(f"   {client.server.url}/#link={client.make_page_link()}")
        show_sync(client)
        show_async(client)
        show_streaming(client)
        show_failures(client, shared)
        started = [client.server.pid, *processes_below(client.server.pid)]
        data_dir = client.server.data_dir
    check(not [pid for pid in started if is_alive(pid)], "all processes have ended")
    check(not data_dir.exists(), "the temporary data directory is gone")
    console.print(f"\n[bold]Done:[/bold] {len(started)} processes were started and have ended.\n")


if __name__ == "__main__":
    sys.exit(main())
