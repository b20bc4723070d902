"""`fake_podman.py STATE …` answers like podman, for tests where no container can be started.

Its containers are processes. What it knows of each is a JSON file in the folder STATE. Every image of localhost is
there, and has no filesystem.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 60.0


def main() -> int:
    state, verb, *rest = sys.argv[1:]
    folder = Path(state)
    folder.mkdir(parents=True, exist_ok=True)
    if verb in ("image", "container"):
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    answers = {
        "image inspect": lambda: 0 if rest[-1].startswith("localhost/") else _fail("no such image"),
        "pull": lambda: _fail(f"Error: {rest[-1]} can't be reached"),
        "run": lambda: _run(folder, rest),
        "supervise": lambda: _supervise(folder / rest[0], rest[1:]),
        "ps": lambda: _list(folder, rest),
        "container inspect": lambda: _inspect(folder / rest[-1]),
        "wait": lambda: _wait(folder / rest[-1]),
        "stop": lambda: _stop(folder / rest[-1], float(rest[1])),
        "kill": lambda: max(_signal(folder / name, signal.SIGKILL) for name in rest),
        "logs": lambda: _logs(folder / f"{rest[-1]}.log"),
        "rm": lambda: _remove(folder, [name for name in rest if not name.startswith("--")]),
    }
    return answers[verb]()


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 125


def _run(folder: Path, rest: list[str]) -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in (
        "pull",
        "name",
        "log-driver",
        "cpus",
        "memory",
        "shm-size",
        "entrypoint",
        "publish",
        "network",
    ):
        parser.add_argument(f"--{name}")
    for name in ("env", "label", "volume", "ulimit", "log-opt"):
        parser.add_argument(f"--{name}", action="append", default=[])
    for name in ("rm", "detach"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("image")
    given, command = parser.parse_known_args(_split(rest))
    env = dict(os.environ)
    for pair in given.env:
        name, equals, value = pair.partition("=")
        env |= {name: value} if equals else {}
    if given.publish:
        env["PORT"] = given.publish.split(":")[1]
    file = folder / given.name
    file.write_text(json.dumps({"labels": given.label, "pid": None, "code": None}))
    me = [sys.executable, __file__, str(folder), "supervise", given.name, given.entrypoint, *command]
    log = (folder / f"{given.name}.log").open("wb") if given.detach else None
    process = subprocess.Popen(
        me, env=env, start_new_session=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    if given.detach:
        return 0
    code = process.wait()
    if given.rm:
        file.unlink(missing_ok=True)
    return code


def _split(rest: list[str]) -> list[str]:
    """Argparse is to leave alone what follows the image."""
    for i, word in enumerate(rest):
        if word.startswith("localhost/"):
            return [*rest[: i + 1], "--", *rest[i + 1 :]] if i + 1 < len(rest) else rest
    return rest


def _supervise(file: Path, command: list[str]) -> int:
    known = json.loads(file.read_text())
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError:
        code = 127
    else:
        file.write_text(json.dumps(known | {"pid": process.pid}))
        code = process.wait()
    code = code if code >= 0 else 128 - code
    if file.exists():
        file.write_text(json.dumps(known | {"code": code}))
    return code


def _list(folder: Path, rest: list[str]) -> int:
    wanted = [word.removeprefix("--filter=label=") for word in rest if word.startswith("--filter=label=")]
    for file in folder.iterdir():
        if file.suffix != ".log" and set(wanted) <= set(_read(file).get("labels", ())):
            print(file.name)
    return 0


def _read(file: Path) -> dict:
    with suppress(OSError, ValueError):  # it may be gone, or being written
        return json.loads(file.read_text())
    return {}


def _inspect(file: Path) -> int:
    if not file.exists():
        return _fail("no such container")
    code = _read(file).get("code")
    status = "running" if code is None else "exited"
    print(json.dumps({"Status": status, "ExitCode": code or 0, "OOMKilled": False}))
    return 0


def _wait(file: Path, seconds: float = SECONDS) -> int:
    deadline = time.monotonic() + seconds
    while file.exists() and _read(file).get("code") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return 0


def _logs(file: Path) -> int:
    if not file.exists():
        return _fail("no such container")
    print(file.read_text(), end="")
    return 0


def _signal(file: Path, number: int) -> int:
    pid = _read(file).get("pid")
    if pid is None:
        return _fail("no such container")
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return 0


def _stop(file: Path, grace: float) -> int:
    code = _signal(file, signal.SIGTERM)
    if code == 0:
        _wait(file, grace)
        _signal(file, signal.SIGKILL)
        _wait(file)
    return code


def _remove(folder: Path, names: list[str]) -> int:
    for name in names:
        _signal(folder / name, signal.SIGKILL)
        for file in (folder / name, folder / f"{name}.log"):
            file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
