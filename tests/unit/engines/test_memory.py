"""When a killed process is said to have been out of memory, and when not."""

from pathlib import Path

import pytest

from openlaunch.engines.documents import WorkerExit
from openlaunch.engines.memory import FRESH_SECONDS, OomWatch, oom_kills


def kernel(folder: Path, cgroup: str, **counters: str) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup with these files."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in counters.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "proc", folder / "cgroups"


def test_the_own_groups_count_goes_first(tmp_path: Path) -> None:
    where = kernel(
        tmp_path,
        "0::/box\n",
        cgroups__box__memory_dot_events="low 0\noom 9\noom_kill 3\noom_group_kill 0\n",
        proc__vmstat="nr_free 1\noom_kill 70\n",
    )
    assert oom_kills(*where) == 3


def test_the_first_version_of_groups_counts_too(tmp_path: Path) -> None:
    where = kernel(
        tmp_path,
        "5:cpu:/\n4:memory:/box\n0::/\n",
        cgroups__memory__box__memory_dot_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    )
    assert oom_kills(*where) == 4


def test_the_machines_count_is_taken_where_no_group_has_one(tmp_path: Path) -> None:
    assert oom_kills(*kernel(tmp_path, "0::/\n", proc__vmstat="oom_kill 70\n")) == 70


def test_other_systems_tell_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path, tmp_path) is None


class Kills:
    """A counter and a clock that a test moves, and a watch on them."""

    def __init__(self) -> None:
        self.count: int | None = 5
        self.now = 100.0
        self.watch = OomWatch(lambda: self.count, lambda: self.now)
        self.watch.look()


@pytest.fixture
def kills() -> Kills:
    return Kills()


def test_a_kill_without_a_count_is_not_explained(kills: Kills) -> None:
    assert not kills.watch.explains_a_kill()


def test_each_count_explains_one_kill(kills: Kills) -> None:
    kills.count = 7
    assert [kills.watch.explains_a_kill() for _ in range(3)] == [True, True, False]


def test_a_look_between_the_kill_and_the_end_of_the_process_hides_nothing(kills: Kills) -> None:
    kills.count, kills.now = 6, 101.0
    kills.watch.look()
    assert kills.watch.explains_a_kill()


def test_a_kill_long_ago_explains_nothing(kills: Kills) -> None:
    kills.count = 6
    for _ in range(3):
        kills.now += FRESH_SECONDS / 2
        kills.watch.look()
    assert not kills.watch.explains_a_kill()


def test_where_nothing_is_counted_nothing_is_claimed(kills: Kills) -> None:
    kills.count = None
    assert not kills.watch.explains_a_kill()


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (WorkerExit(3, None), "exited with code 3"),
        (WorkerExit(137, None), "exited with code 137 (killed by signal 9)"),
        (WorkerExit(None, 9), "was killed by signal 9 (SIGKILL)"),
        (WorkerExit(None, 9, out_of_memory=True), "was killed by signal 9 (SIGKILL), probably out of memory"),
        (WorkerExit(None, 11), "was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_an_end_is_told_in_words(ended: WorkerExit, text: str) -> None:
    assert str(ended) == text
