"""Run the tests of a kind: most of them beside each other, some alone, and then a few that failed once more.

`make pytest` calls this for the quick ones, `make test-slow` with `slow` for the others, and `make test-postgres`
with folders. A test that fails only on a busy machine would hide what a change did. So a failure is repeated alone;
the first failure stays in the output and its name comes at the end, because it is a fault to mend.
"""

import json
import subprocess
import sys
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
NOTHING_RAN = 5
"""pytest's exit code where no test is of the kind."""
REPEATED = 3
"""With more failures than these, the change is at fault and not the machine."""


def pytest(*options: str) -> int:
    """Run pytest; end this program if it could not run the tests."""
    code = subprocess.run([sys.executable, "-m", "pytest", *options]).returncode
    if code not in (0, 1, NOTHING_RAN):
        sys.exit(code)
    return code % NOTHING_RAN


def failed() -> list[str]:
    """Return the names of the tests whose last run failed."""
    return sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []


def alone() -> list[str]:
    """Return the files that have tests to be run alone. To import all files for that takes ten seconds."""
    return [str(file) for file in Path("tests").rglob("test_*.py") if "mark.alone" in file.read_text()]


def main(kind: str = "not slow", *folders: str) -> int:
    """Return the exit code: 0 if each test passed, at the first try or at the second."""
    # Four at a time on two cores, because most tests wait for processes to start; many slow ones keep a core busy.
    workers = "4" if kind == "not slow" else "3"
    codes = [
        pytest(
            "--cache-clear", "-n", workers, "--dist", "worksteal", "-m", f"{kind} and not alone", *folders
        ),
        pytest("-m", f"{kind} and alone", *(folders or alone())),
    ]
    if not any(codes):
        return 0
    names = failed()
    if not 1 <= len(names) <= REPEATED:
        return 1
    code = pytest("--last-failed", "--last-failed-no-failures", "none")
    if code == 0:
        print("Failed at first, and passed alone; each is a fault to mend:", *names, sep="\n  ")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
