"""A real server for the tests of its HTTP API, and the waiting that they share."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from agents import engine_of
from records import records_of

from openlaunch import EndpointRequest
from openlaunch.testing import LocalClient, local

DEADLINE = 60.0
"""Generous: where other programs keep every core busy, a first environment and its worker can take 30 s."""
SMALL = {"cpus": 0.1, "memory": "64Mi"}
"""What a worker asks for, so that many fit on any machine."""


@contextmanager
def running(data_dir=None, **settings) -> Iterator[LocalClient]:
    """A server with these settings, and a client that does not retry."""
    with records_of(data_dir) as records:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**records, **settings}.items():
                patch.setenv(f"OPENLAUNCH_{name.upper()}", str(value))
            agents = ExitStack()
            for name, value in agents.enter_context(engine_of()).items():
                patch.setenv(f"OPENLAUNCH_{name.upper()}", str(value))
            client = local(data_dir, max_retries=0)
        with agents, client:
            yield client


@contextmanager
def http(client: LocalClient, key: str | None = None) -> Iterator[httpx2.Client]:
    """Plain HTTP to the client's server, with its key unless another one is given."""
    with httpx2.Client(
        base_url=client.server.url, auth=(key or client.server.api_key, ""), timeout=60
    ) as raw:
        yield raw


def args(**values) -> EndpointRequest:
    return EndpointRequest(args=values)


def eventually(condition: Callable[[], object], seconds: float = DEADLINE):
    """Wait until the condition is true, and return what it gave."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so after {seconds:g} s"
        time.sleep(pause)
        pause = min(1.5 * pause, 0.05)  # to ask takes cores from what is waited for
    return value


def pid_of(who: str) -> int | None:
    """The process that called itself `f"{os.getcwd()}:{os.getpid()}"`; a worker's have numbers of their own."""
    folder, _, pid = who.rpartition(":")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            status = (process / "status").read_text()
            in_its_namespace = next(
                line for line in status.splitlines() if line.startswith("NSpid:")
            ).split()[-1]
            if (
                in_its_namespace == pid
                and str((process / "cwd").readlink()).removesuffix(" (deleted)") == folder
            ):
                return int(process.name)
    return None


def processor_seconds(pid: int) -> float:
    """The processor time that a process has had, in all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_alive(process: int | str) -> bool:
    """Whether a process runs, by its number here or by what it called itself."""
    if isinstance(process, str):
        return pid_of(process) is not None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def send_signal(who: str, number: int) -> None:
    """Send a signal to the process that called itself so."""
    pid = pid_of(who)
    assert pid is not None
    os.kill(pid, number)


def problem(response, status):
    """The problem document of an answer that has to be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def upload(raw, data):
    """Upload a bundle's bytes; gives their location."""
    where = raw.post("/v1/hosted_inference/model_bundle_upload", json={}).json()
    assert raw.put(where["signedUrl"], content=data, auth=None).status_code == 200
    return f"s3://{where['bucket']}/{where['key']}"


def uploaded_bundle(raw, data, flavor="cloudpickle_artifact", schemas=None):
    """The answer to a request that makes a bundle of these bytes."""
    path = "" if flavor == "cloudpickle_artifact" else "_module_path"
    body = {
        "name": "in-uploaded",
        "schema_location": "" if schemas is None else upload(raw, schemas),
        "flavor": {
            "flavor": flavor,
            "location": upload(raw, data),
            "requirements": [],
            "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2"},
            f"load_predict_fn{path}": "code.load_predict",
            f"load_model_fn{path}": "code.load_model",
        },
    }
    return raw.post("/v2/model-bundles", json=body)
