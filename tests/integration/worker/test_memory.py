"""Workers at the bound of their memory: a request that meets it fails alone, and the worker serves on."""

import json
import sys

import pytest
from worker_driver import Worker

from openlaunch_worker.frames import Flags, Kind, Outcome

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other kernels do not bound a process's memory"
)

MIB = 1 << 20


def bounded(mib, *, on_loop=False):
    """A bundle that leaves so much memory to its requests; it returns the length of a text, and a text it makes."""

    def load():
        import resource
        from pathlib import Path

        used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + (mib << 20),) * 2)
        return []

    def sizes(kept, text="", mib=0, keep=False, times=1):
        made = "y" * (mib << 20)
        if keep:
            kept.append(made)
        return len(text), made * times

    def load_predict(kept):
        async def on_the_loop(**args):
            return sizes(kept, **args)

        def in_a_thread(**args):
            return sizes(kept, **args)

        return on_the_loop if on_loop else in_a_thread

    return {"load_model_fn": load, "load_predict_fn": load_predict}


@pytest.fixture(scope="module", params=[False, True], ids=["def", "async def"])
def worker(request):
    with Worker(bounded(48, on_loop=request.param), max_result_bytes=1 << 30) as worker:
        yield worker.ready()


def failed(answer):
    assert answer["status"] == "FAILURE"
    assert answer["status_code"] == 500
    text = answer["traceback"]
    assert "the worker may use" in text
    assert "give the endpoint more `memory`, or send and return less at a time" in text
    return text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"text": "x" * (60 * MIB)}, "there is no memory to read it"),
        ({"text": "x" * (30 * MIB)}, f"the request has {30 * MIB + 22} bytes"),
        ({"mib": 200}, "MemoryError"),
        ({"mib": 20, "times": 8}, "MemoryError"),
        ({"mib": 24}, "the request has 21 bytes"),
    ],
    ids=["a frame", "a document", "the function", "a value", "an answer"],
)
def test_a_request_for_which_there_is_no_memory_fails_alone_and_says_the_bound(worker, args, words):
    other = worker.request({"args": {"text": "small"}})
    big = worker.request({"args": args})
    ends = {}
    for _ in range(2):
        request_id, _, body = worker.answer(60)
        ends[request_id] = json.loads(body)
    assert ends[other]["status"] == "SUCCESS"
    assert words in failed(ends[big])
    assert worker.value(text="x" * 1000) == [1000, ""]


def test_a_stream_for_which_there_is_no_memory_fails_alone(worker):
    sent = worker.request({"args": {"text": "x" * (60 * MIB)}}, Flags.STREAM)
    kind, request_id, payload = worker.frame(60)
    assert (kind, request_id, payload[0]) == (Kind.END, sent, Outcome.FAILURE)
    assert b"there is no memory to read it" in payload
    assert worker.value(text="x") == [1, ""]


def test_what_fits_passes_in_both_directions(worker):
    assert worker.value(text="x" * (8 * MIB)) == [8 * MIB, ""]
    length, made = worker.value(mib=8)
    assert (length, len(made)) == (0, 8 * MIB)


def test_a_worker_whose_memory_stays_in_use_asks_to_be_replaced():
    with Worker(bounded(64), per_worker=1) as worker:
        worker.ready()
        ends = []
        while not ends or ends[-1] == "SUCCESS":
            ends.append(worker.call({"args": {"mib": 10, "keep": True, "times": 0}})["status"])
        assert len(ends) > 2
        kind, _, reason = worker.frame()
        assert kind == Kind.LEAVING
        assert b"its memory stays in use when its requests have ended: the worker may use" in reason
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
