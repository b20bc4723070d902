"""The program that speaks to Ray for a server, in a process of its own: Ray ends a process that it takes for cut off.

It reads requests from its standard input, a JSON document a line, and answers them on its standard output in any
order. It ends when its input does.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE = "openlaunch"
THREADS = 16
START_SECONDS = 120.0


def look(prefix: str) -> dict[str, Any]:
    """Return the nodes that have cores, and the placement groups whose names begin so."""
    nodes = [
        {"id": each["NodeID"], "host": each["NodeManagerAddress"], "resources": each["Resources"]}
        for each in ray.nodes()
        if each["Alive"] and each["Resources"].get("CPU")
    ]
    groups = [
        {"name": each["name"], "node": _node_of(each), "bundle": each["bundles"][0]}
        for each in placement_group_table().values()
        if each["name"].startswith(prefix) and each["state"] != "REMOVED"
    ]
    return {"nodes": nodes, "groups": groups}


def _node_of(group: dict[str, Any]) -> str:
    return (group["bundles_to_node_id"].get(0) or "") if group["state"] == "CREATED" else ""


def reserve(name: str, bundle: dict[str, float], labels: dict[str, str], seconds: float) -> str:
    """Make a placement group of one bundle, and return its node; "" where there is no room within the seconds."""
    group = placement_group(
        [bundle], name=name, lifetime="detached", bundle_label_selector=[labels] if labels else None
    )
    return _node_of(placement_group_table(group)) if group.wait(seconds) else ""


def remove(name: str) -> None:
    """Remove a placement group, if it is there."""
    try:
        remove_placement_group(get_placement_group(name))
    except ValueError:
        return


def start(node: str, host: str, token: str) -> str:
    """Have an agent run on a node, and return where it listens."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(start_agent).options(scheduling_strategy=strategy)
    address: str = ray.get(task.remote(host, token), timeout=START_SECONDS)
    return address


def start_agent(host: str, token: str) -> str:
    """Start an agent on this node, unless one runs; return where it listens, "" and why where it can't."""
    import os
    import subprocess
    import sys
    from contextlib import suppress
    from pathlib import Path

    def be_no_nicer() -> None:
        """Have the priority of the node's own processes: Ray lowers that of tasks by 15, for ever."""
        with suppress(OSError):  # only root may raise it again
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, raylet))

    raylet = os.getppid()
    environ = dict(os.environ)
    started_with = Path(f"/proc/{raylet}/environ")
    if (
        started_with.exists()
    ):  # what the node was started with: Ray hides the GPUs from a task that asks for none
        pairs = (pair.partition("=") for pair in os.fsdecode(started_with.read_bytes()).split("\0"))
        environ = {name: value for name, _, value in pairs if name}
    environ = {name: value for name, value in environ.items() if not name.startswith("RAY_")}
    environ["OPENLAUNCH_CLUSTER_TOKEN"] = token
    environ.setdefault("OPENLAUNCH_DATA_DIR", str(Path.home() / ".openlaunch-agent"))
    environ.setdefault("OPENLAUNCH_HOST", host)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "openlaunch.cli", "agent", "--background"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        preexec_fn=be_no_nicer,
    )
    if run.returncode:
        raise RuntimeError(run.stderr.strip()[-1000:])
    return run.stdout.rpartition("ready ")[2].strip()


METHODS: dict[str, Callable[..., Any]] = {"look": look, "reserve": reserve, "remove": remove, "start": start}


def main() -> None:
    """Serve requests until the end of the input."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what Ray prints is not an answer
        threading.Thread(target=_work, args=(answers,), daemon=True).start()
        _ended.wait()
    os._exit(0)


_ended = threading.Event()
_writing = threading.Lock()


def _work(answers: Any) -> None:
    connected = threading.Thread(target=_connect, args=(answers,), daemon=True)
    connected.start()
    with ThreadPoolExecutor(THREADS) as pool:
        for line in sys.stdin:
            connected.join()
            pool.submit(_answer, json.loads(line), answers)
        _ended.set()


def _connect(answers: Any) -> None:
    try:
        # Whatever it finds, it starts no cluster of its own.
        ray.init("auto", namespace=NAMESPACE, log_to_driver=False, logging_level="error")
    except BaseException as error:
        _send(answers, {"id": 0, "error": _last_line(error)})
        _ended.set()
    else:
        _send(answers, {"id": 0, "answer": None})


def _answer(request: dict[str, Any], answers: Any) -> None:
    try:
        answer = {"answer": METHODS[request["method"]](**request["arguments"])}
    except Exception as error:
        answer = {"error": _last_line(error)}
    _send(answers, {"id": request["id"], **answer})


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _send(answers: Any, document: dict[str, Any]) -> None:
    with _writing:
        print(json.dumps(document), file=answers, flush=True)


if __name__ == "__main__":
    main()
