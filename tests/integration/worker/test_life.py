"""The worker as a process: its environment, its log, and the ways it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_driver import TOKEN, Worker, returning, wait_until, zip_of

from openlaunch_worker.frames import Flags, Kind, Outcome

pytestmark = pytest.mark.usefixtures("each_loop")


def scratch_of(worker):
    return list(worker.folder.glob("openlaunch-worker*"))


def test_user_code_sees_neither_address_nor_token():
    def predict():
        import os

        return [f"{name}={value}" for name, value in os.environ.items()]

    def load():
        import os

        print("names:", *os.environ)

    bundle = {"load_model_fn": load, "load_predict_fn": lambda model: predict}
    with Worker(bundle) as worker:
        worker.ready()
        seen = "\n".join(worker.value()) + worker.log()
        assert "names: " in seen
        assert "OPENLAUNCH_WORKER" not in seen
        assert TOKEN not in seen


def test_without_address_and_token_it_says_what_it_is():
    done = subprocess.run(
        [sys.executable, "-m", "openlaunch_worker"], env={}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert "OPENLAUNCH_WORKER_ADDRESS and OPENLAUNCH_WORKER_TOKEN have to be set" in done.stderr


@pytest.mark.parametrize("address", ["/nowhere/s", "127.0.0.1:1", "[::1]:1", "host:nonsense"])
def test_a_server_that_is_not_there_is_named(address, tmp_path):
    env = {"OPENLAUNCH_WORKER_ADDRESS": address, "OPENLAUNCH_WORKER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "openlaunch_worker"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 4
    assert f"no connection to the server at {address}" in done.stderr
    assert TOKEN not in done.stderr


def test_what_user_code_prints_is_in_the_log_at_once():
    with Worker(returning(lambda: print("a line \ud800"))) as worker:
        worker.ready()
        worker.value()
        assert "a line \\ud800\n" in worker.log()


def test_drain_with_nothing_to_do_exits_0_and_leaves_nothing_behind():
    files = {"m.py": "def a(config): return 1\ndef b(config, model): return lambda: 1"}
    flavor = {
        "flavor": "zip_artifact",
        "load_model_fn_module_path": "m.a",
        "load_predict_fn_module_path": "m.b",
    }
    with Worker(zip_of(files), flavor) as worker:
        worker.ready()
        assert scratch_of(worker)
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
        assert not scratch_of(worker)
        assert worker.log() == ""


@pytest.mark.parametrize("how", ["DRAIN", "SIGTERM", "SIGINT"])
def test_what_runs_is_finished_before_it_exits(how):
    def predict():
        import time

        print("it runs")
        time.sleep(0.3)
        return "done"

    with Worker(returning(predict)) as worker:
        worker.ready()
        request_id = worker.request({"args": {}})
        worker.wait_for_log("it runs")
        if how == "DRAIN":
            worker.send(Kind.DRAIN, 0)
        else:
            worker.process.send_signal(getattr(signal, how))
            assert worker.frame()[0] == Kind.LEAVING
            worker.send(Kind.DRAIN, 0)
        assert worker.answer()[:2] == (request_id, Outcome.SUCCESS)
        with pytest.raises(EOFError):
            worker.frame()
        assert worker.exit_code() == 0


def test_a_sigterm_that_the_server_does_not_answer_ends_the_worker_all_the_same():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.process.terminate()
        assert worker.frame()[0] == Kind.LEAVING
        with pytest.raises(EOFError):
            worker.frame()
        assert worker.exit_code() == 0


def test_a_large_result_is_sent_whole_before_it_exits():
    with Worker(returning(lambda: "x" * 5_000_000)) as worker:
        worker.ready()
        worker.request({"args": {}})
        worker.send(Kind.DRAIN, 0)
        assert len(worker.answer()[2]) > 5_000_000
        assert worker.exit_code() == 0


def test_a_drain_that_comes_while_the_bundle_loads_is_heeded():
    def load():
        import time

        time.sleep(0.3)

    with Worker({"load_model_fn": load, "load_predict_fn": lambda model: lambda: 1}) as worker:
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0


def test_exit_functions_of_user_code_run():
    def load():
        import atexit

        atexit.register(print, "goodbye")

    with Worker({"load_model_fn": load, "load_predict_fn": lambda model: lambda: 1}) as worker:
        worker.ready()
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
        assert "goodbye" in worker.log()


def test_tasks_that_user_code_has_left_running_are_cancelled_at_the_end():
    async def predict():
        import asyncio

        async def forever():
            try:
                await asyncio.sleep(3600)
            finally:
                print("cancelled at the end")

        predict.task = asyncio.get_running_loop().create_task(forever())
        await asyncio.sleep(0)

    with Worker(returning(predict)) as worker:
        worker.ready()
        worker.value()
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code() == 0
        assert "cancelled at the end" in worker.log()


def test_a_thread_of_user_code_that_never_ends_does_not_keep_it_alive():
    def load():
        import threading
        import time

        threading.Thread(target=time.sleep, args=(3600,)).start()

    with Worker({"load_model_fn": load, "load_predict_fn": lambda model: lambda: 1}) as worker:
        worker.ready()
        worker.send(Kind.DRAIN, 0)
        assert worker.exit_code(timeout=10) == 0
        assert not scratch_of(worker)


def test_a_load_failure_ends_it_although_a_thread_goes_on():
    def load():
        import threading
        import time

        threading.Thread(target=time.sleep, args=(3600,)).start()
        raise ValueError("broken")

    with Worker({"load_model_fn": load, "load_predict_fn": None}) as worker:
        worker.load_failure()
        assert worker.exit_code(timeout=10) == 3


@pytest.mark.parametrize("kind", ["loads", "thread", "loop", "stream", "idle"])
def test_it_ends_at_once_when_the_server_is_gone_whatever_user_code_does(kind):
    def busy():
        print("busy")
        while True:
            pass

    async def busy_on_loop():
        busy()

    async def idle():
        print("busy")

    def stream():
        print("busy")
        while True:
            yield 1

    predict = {"thread": busy, "loop": busy_on_loop, "stream": stream, "idle": idle, "loads": idle}[kind]
    bundle = returning(predict)
    if kind == "loads":
        bundle["load_model_fn"] = busy
    with Worker(bundle) as worker:
        if kind != "loads":
            worker.ready()
            worker.request({"args": {}}, Flags.STREAM if kind == "stream" else Flags.NONE)
        worker.wait_for_log("busy")
        worker.socket.close()
        start = time.monotonic()
        assert worker.exit_code() == 4
        assert time.monotonic() - start < 2
        assert not scratch_of(worker)


@pytest.mark.parametrize("on_loop", [False, True])
def test_it_ends_soon_when_user_code_has_closed_its_connection(on_loop):
    def predict():
        import os

        os.closerange(3, 100)

    async def predict_on_loop():
        predict()

    with Worker(returning(predict_on_loop if on_loop else predict)) as worker:
        worker.ready()
        worker.request({"args": {}})
        with pytest.raises(EOFError):
            worker.frame()
        assert worker.exit_code() != 0


def test_it_ends_as_ever_where_user_code_has_broken_its_output():
    def predict():
        import os
        import sys

        sys.stdout = sys.stderr = os.write = None

    with Worker(returning(predict)) as worker:
        worker.ready()
        assert worker.value() is None
        worker.socket.sendall(b"\xff" * 100)  # it wants to say that these are no frames
        assert worker.exit_code() == 4


def test_sigterm_while_it_loads_ends_it_at_once():
    def load():
        import time

        print("loading")
        time.sleep(3600)

    with Worker({"load_model_fn": load, "load_predict_fn": None}) as worker:
        worker.wait_for_log("loading")
        worker.process.terminate()
        assert worker.exit_code() == -signal.SIGTERM


def test_bytes_that_are_no_frames_end_it():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.socket.sendall(b"\xff" * 100)
        assert worker.exit_code() == 4
        assert "the server broke the protocol" in worker.log()


def test_a_frame_that_does_not_belong_ends_it():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.send(Kind.HELLO, 0)
        assert worker.exit_code() == 4
        assert "a frame of kind 1 does not belong here" in worker.log()


def test_a_request_too_short_to_be_one_ends_it():
    with Worker(returning(lambda: 1)) as worker:
        worker.ready()
        worker.send(Kind.REQUEST, 1, b"\x00")
        assert worker.exit_code() == 4


def test_forked_children_do_not_hold_the_connection_nor_pass_signals_on():
    def predict():
        import os
        import signal
        import time

        child = os.fork()
        if child == 0:
            while True:
                time.sleep(3600)
        os.kill(child, signal.SIGTERM)
        return [child, os.waitpid(child, 0)[1]]

    def leave_child():
        import os
        import time

        child = os.fork()
        if child == 0:
            time.sleep(3600)
        return child

    both = {"terminate": predict, "leave": leave_child}
    with Worker(returning(lambda what: both[what]()), env={"PYTHONWARNINGS": "ignore"}) as worker:
        worker.ready()
        _, status = worker.value(what="terminate")
        assert os.WTERMSIG(status) == signal.SIGTERM
        child = worker.value(what="leave")  # still served: the signal was not taken for the worker's own
        try:
            worker.process.kill()
            with pytest.raises(EOFError):
                worker.frame()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_it_dies_with_its_parent():
    program = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from worker_driver import Worker, returning
with Worker(returning(lambda: 1)) as worker:
    worker.ready()
    print(worker.process.pid, flush=True)
    worker.hold = worker.socket.dup()
    time.sleep(3600)
"""
    here = str(Path(__file__).parents[1])
    parent = subprocess.Popen([sys.executable, "-c", program, here], stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
        wait_until(lambda: not alive(pid))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_connects_over_tcp_too():
    import json
    import socket

    from openlaunch_worker.frames import FrameParser, encode

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        env = {"OPENLAUNCH_WORKER_ADDRESS": f"{host}:{port}", "OPENLAUNCH_WORKER_TOKEN": TOKEN}
        process = subprocess.Popen(
            [sys.executable, "-m", "openlaunch_worker"], env=env, stderr=subprocess.DEVNULL
        )
        listener.settimeout(20)
        connection, _ = listener.accept()
    with connection:
        connection.settimeout(20)
        ((kind, _, payload),) = FrameParser().feed(connection.recv(4096))
        assert (kind, json.loads(payload)["token"]) == (Kind.HELLO, TOKEN)
        connection.sendall(encode(Kind.START, 0, b"{}"))
        assert connection.recv(4096) == b""
    assert process.wait(20) == 4
