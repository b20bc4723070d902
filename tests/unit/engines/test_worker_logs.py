"""The logs of workers: bounded, private, whole lines."""

import os

import pytest

from openlaunch.engines.documents import MAX_LOG_LINES, LogPart
from openlaunch.engines.log_lines import log_line
from openlaunch.engines.worker_logs import MAX_WORKER_LOGS, WorkerLogs


@pytest.fixture
def logs(tmp_path):
    return WorkerLogs(tmp_path / "logs")


def write(logs, name: str, text: str, age: int = 0) -> None:
    path = logs.path("end_1", name)
    path.write_text(text)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def read(logs, *part, **more) -> str:
    return "".join(f"{line.worker} {line.line}\n" for line in logs.read("end_1", LogPart(*part, **more)))


def test_lines_name_their_worker_the_oldest_worker_first(logs):
    write(logs, "bbb", "two\n", age=1)
    write(logs, "aaa", "three\n", age=0)
    write(logs, "ccc", "one\none and a half", age=2)
    assert read(logs, 1000) == "ccc one\nccc one and a half\nbbb two\naaa three\n"


def test_only_the_last_bytes_and_whole_lines(logs):
    write(logs, "aaa", "".join(f"line {n}\n" for n in range(100)))
    text = read(logs, 30)
    assert text == "aaa line 98\naaa line 99\n"


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
def test_never_more_than_asked_for(logs, limit):
    write(logs, "aaa", "x" * 100 + "\n" + "grüße\n" * 10)
    assert len(read(logs, limit).encode()) <= limit


def stamped(minute: int, text: str) -> str:
    return f"2026-05-04T09:{minute:02}:00.000Z {text}\n"


def test_lines_of_several_workers_are_in_the_order_of_their_times(logs):
    write(logs, "aaa", stamped(1, "one") + stamped(4, "four") + "of four\n")
    write(logs, "bbb", stamped(2, "two") + stamped(3, "three"), age=5)
    assert read(logs, 1000) == "aaa one\nbbb two\nbbb three\naaa four\naaa of four\n"
    assert [line.at[14:16] for line in logs.read("end_1", LogPart(1000))] == ["01", "02", "03", "04", ""]


def test_lines_are_chosen_by_number_and_time(logs):
    write(logs, "aaa", "".join(stamped(n, str(n)) for n in range(0, 10, 2)))
    write(logs, "bbb", "".join(stamped(n, str(n)) for n in range(1, 10, 2)))
    assert read(logs, 1000, tail_lines=2) == "aaa 8\nbbb 9\n"
    assert read(logs, 1000, tail_lines=0) == ""
    assert read(logs, 1000, since="2026-05-04T09:07") == "bbb 7\naaa 8\nbbb 9\n"
    assert read(logs, 1000, tail_lines=2, until="2026-05-04T09:03:00.000Z") == "bbb 1\naaa 2\n"


def test_no_more_lines_are_read_than_a_server_can_answer_at_once(logs):
    write(logs, "aaa", "a\n" * (MAX_LOG_LINES + 9))
    for part in (LogPart(10**7), LogPart(10**7, tail_lines=10**6)):
        assert len(logs.read("end_1", part)) == MAX_LOG_LINES


def test_the_servers_own_lines_stand_alone_and_have_their_time(logs):
    write(logs, "aaa", stamped(1, "begun").rstrip())
    logs.add("end_1", "end_1.aaa", "first\nsecond")
    lines = logs.read("end_1", LogPart(1000))
    assert [line.line for line in lines] == ["begun", "openlaunch server: first", "openlaunch server: second"]
    assert lines[0].at < lines[1].at == lines[2].at


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


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("INFO:my.model:loaded", "INFO"),
        ("2026-05-04 09:30:00,123 WARNING my.model: slow", "WARNING"),
        ("[2026-05-04T09:30:00Z] [ERROR] broken", "ERROR"),
        ("WARN low", "WARNING"),
        ("no ERROR here", ""),
        ("INFORMATION", ""),
        ("12 ERROR", ""),
        ("", ""),
    ],
)
def test_the_level_of_a_line_is_known_where_it_begins_with_one(line, level):
    assert log_line("w", f"2026-05-04T09:30:00.123Z {line}".encode(), "").level == level
    assert log_line("w", line.encode(), "").level == level
