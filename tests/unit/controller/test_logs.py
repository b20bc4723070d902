"""The logs of endpoints: bounded, private, whole lines."""

import os
import stat

import pytest

from openlaunch.controller import logs as logs_module
from openlaunch.controller.logs import MAX_WORKER_LOGS, EndpointLogs, tail


@pytest.fixture
def logs(tmp_path):
    return EndpointLogs(tmp_path / "logs")


class TestCreation:
    def test_lines_are_added(self, logs):
        logs.begin_creation("end_1", "generation 1")
        logs.add_creation("end_1", "building\n")
        logs.add_creation("end_1", "two\nlines")
        assert logs.creation("end_1") == "generation 1\nbuilding\ntwo\nlines\n"

    def test_a_new_generation_begins_anew(self, logs):
        logs.begin_creation("end_1", "generation 1")
        logs.begin_creation("end_1", "generation 2")
        assert logs.creation("end_1") == "generation 2\n"

    def test_there_is_none_of_an_endpoint_that_is_not_known(self, logs):
        assert logs.creation("end_2") == ""

    def test_is_for_this_user_alone(self, logs, tmp_path):
        logs.begin_creation("end_1", "generation 1")
        folder = tmp_path / "logs" / "end_1"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "creation.log").stat().st_mode) == 0o600

    def test_the_oldest_goes_when_it_is_full(self, logs, monkeypatch):
        monkeypatch.setattr(logs_module, "MAX_CREATION_BYTES", 1000)
        for n in range(1000):
            logs.add_creation("end_1", f"line {n}")
        text = logs.creation("end_1")
        assert len(text) <= 1000
        assert text.endswith("line 998\nline 999\n")

    def test_text_that_is_no_utf8_does_no_harm(self, logs):
        logs.add_creation("end_1", "odd \udcff")
        assert logs.creation("end_1") == "odd ?\n"


class TestWorkers:
    def write(self, logs, name: str, text: str, age: int = 0) -> None:
        path = logs.worker_path("end_1", name)
        path.write_text(text)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))

    def test_lines_name_their_worker_the_oldest_worker_first(self, logs):
        self.write(logs, "bbb", "two\n", age=1)
        self.write(logs, "aaa", "three\n", age=0)
        self.write(logs, "ccc", "one\none and a half", age=2)
        assert logs.workers("end_1", 1000) == "ccc one\nccc one and a half\nbbb two\naaa three\n"

    def test_only_the_last_bytes_and_whole_lines(self, logs):
        self.write(logs, "aaa", "".join(f"line {n}\n" for n in range(100)))
        text = logs.workers("end_1", 30)
        assert text == "aaa line 98\naaa line 99\n"

    @pytest.mark.parametrize("limit", [0, 1, 5, 1000])
    def test_never_more_than_asked_for(self, logs, limit):
        self.write(logs, "aaa", "x" * 100 + "\n" + "grüße\n" * 10)
        assert len(logs.workers("end_1", limit).encode()) <= limit

    def test_prune_keeps_the_running_and_the_last_of_the_others(self, logs, tmp_path):
        for n in range(MAX_WORKER_LOGS + 10):
            self.write(logs, f"w{n:03}", "x\n", age=1000 - n)
        logs.prune("end_1", running={"w000", "w001"})
        kept = sorted(path.stem for path in (tmp_path / "logs" / "end_1").iterdir())
        assert kept[:2] == ["worker-w000", "worker-w001"]
        assert kept[2:] == [f"worker-w{n:03}" for n in range(10, MAX_WORKER_LOGS + 10)]

    def test_prune_shortens_what_has_grown_and_the_writer_goes_on(self, logs, monkeypatch):
        monkeypatch.setattr(logs_module, "MAX_WORKER_BYTES", 1000)
        path = logs.worker_path("end_1", "aaa")
        with path.open("a") as writer:
            writer.write("x\n" * 2000)
            writer.flush()
            logs.prune("end_1", running={"aaa"})
            writer.write("the end\n")
        assert path.stat().st_size == 500 + len("the end\n")
        assert path.read_text().endswith("x\nthe end\n")

    def test_remove_takes_all_of_it(self, logs, tmp_path):
        self.write(logs, "aaa", "x\n")
        logs.add_creation("end_1", "x")
        logs.remove("end_1")
        logs.remove("end_1")
        assert list((tmp_path / "logs").iterdir()) == []


class TestTail:
    @pytest.mark.parametrize(
        ("limit", "text"),
        [(0, ""), (3, ""), (4, "two\n"), (7, "two\n"), (8, "one\ntwo\n"), (99, "one\ntwo\n")],
    )
    def test_gives_whole_lines(self, tmp_path, limit, text):
        path = tmp_path / "log"
        path.write_text("one\ntwo\n")
        assert tail(path, limit) == text

    def test_of_a_line_that_is_too_long_its_end(self, tmp_path):
        path = tmp_path / "log"
        path.write_text("x" * 100 + "end")
        assert tail(path, 5) == "xxend"

    def test_of_no_file_nothing(self, tmp_path):
        assert tail(tmp_path / "missing", 10) == ""


def test_a_log_that_can_not_be_written_stops_nobody(tmp_path):
    (tmp_path / "logs").write_text("a file where the folder should be")
    logs = EndpointLogs(tmp_path / "logs")
    logs.begin_creation("end_1", "generation 1")
    logs.add_creation("end_1", "a line")
    logs.prune("end_1", [])
