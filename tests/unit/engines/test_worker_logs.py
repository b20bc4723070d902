"""The logs of workers: bounded, private, whole lines."""

import os

import pytest

from openlaunch.engines.worker_logs import MAX_WORKER_LOGS, WorkerLogs


@pytest.fixture
def logs(tmp_path):
    return WorkerLogs(tmp_path / "logs")


def write(logs, name: str, text: str, age: int = 0) -> None:
    path = logs.path("end_1", name)
    path.write_text(text)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_lines_name_their_worker_the_oldest_worker_first(logs):
    write(logs, "bbb", "two\n", age=1)
    write(logs, "aaa", "three\n", age=0)
    write(logs, "ccc", "one\none and a half", age=2)
    assert logs.read("end_1", 1000) == "ccc one\nccc one and a half\nbbb two\naaa three\n"


def test_only_the_last_bytes_and_whole_lines(logs):
    write(logs, "aaa", "".join(f"line {n}\n" for n in range(100)))
    text = logs.read("end_1", 30)
    assert text == "aaa line 98\naaa line 99\n"


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
def test_never_more_than_asked_for(logs, limit):
    write(logs, "aaa", "x" * 100 + "\n" + "grüße\n" * 10)
    assert len(logs.read("end_1", limit).encode()) <= limit


def test_prune_keeps_the_running_and_the_last_of_the_others(logs, tmp_path):
    for n in range(MAX_WORKER_LOGS + 10):
        write(logs, f"w{n:03}", "x\n", age=1000 - n)
    logs.prune("end_1", running={"w000", "w001"})
    kept = sorted(path.stem for path in (tmp_path / "logs" / "end_1").iterdir())
    assert kept[:2] == ["worker-w000", "worker-w001"]
    assert kept[2:] == [f"worker-w{n:03}" for n in range(10, MAX_WORKER_LOGS + 10)]


def test_remove_takes_all_of_it(logs, tmp_path):
    write(logs, "aaa", "x\n")
    logs.remove("end_1")
    logs.remove("end_1")
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_folder_that_can_not_be_read_stops_nobody(tmp_path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    WorkerLogs(tmp_path / "logs").prune("end_1", [])
