"""A container engine for tests: a real one, or where no container can be started one that only looks so.

The real one's image has no size: this machine's Python is seen inside, read-only.
`OPENLAUNCH_CONTAINER_ENGINE` and `OPENLAUNCH_CONTAINER_RUN_OPTIONS` say how it is called, as for the server.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

IMAGE = ("localhost/openlaunch-test", "1")
PYTHON = str(
    Path(sys.base_prefix).resolve() / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
)
SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """An engine with a store of its own, that has `IMAGE`. `fake` is why it is none with real containers."""

    program: tuple[str, ...]
    run_options: str
    fake: str | None = None

    def needs_real(self) -> None:
        """Skip the test, saying why, where containers are not real."""
        if self.fake is not None:
            pytest.skip(self.fake)

    def settings(self) -> dict[str, str]:
        """What `server_driver.running` is given."""
        return {"container_engine": shlex.join(self.program), "container_run_options": self.run_options}

    def call(self, *arguments: str) -> str:
        """What the engine prints."""
        return _run([*self.program, *arguments]).stdout

    def build(self, tag: str, programs: dict[str, str]) -> str:
        """Build an image with these programs in its PATH, and return its repository."""
        with tempfile.TemporaryDirectory() as folder:
            rootfs = Path(folder) / "rootfs"
            for name in ("usr", "tmp", "etc", "programs"):
                (rootfs / name).mkdir(parents=True)
            for name in ("bin", "lib", "lib64"):
                (rootfs / name).symlink_to(f"usr/{name}")
            for name, text in programs.items():
                (rootfs / "programs" / name).write_text(text)
                (rootfs / "programs" / name).chmod(0o755)
            file = Path(folder) / "Containerfile"
            file.write_text("FROM scratch\nCOPY rootfs/ /\nENV PATH=/programs:/usr/bin\n")
            name = f"{IMAGE[0]}:{tag}"
            self.call("build", "--isolation", "chroot", "--tag", name, "--file", str(file), folder)
        return IMAGE[0]

    def names(self) -> list[str]:
        """The names of all containers, running or not."""
        return self.call("ps", "--all", "--format", "{{.Names}}").split()


@contextmanager
def container_engine() -> Iterator[Engine]:
    """A real engine where there is one, else the fake one."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        try:
            engine = stack.enter_context(real_engine())
        except pytest.skip.Exception as skipped:
            fake = (sys.executable, str(Path(__file__).with_name("fake_podman.py")), folder)
            engine = Engine(fake, "", fake=skipped.msg)
        yield engine


@contextmanager
def real_engine() -> Iterator[Engine]:
    """A real engine; the test is skipped where no container can be started."""
    program = shlex.split(os.environ.get("OPENLAUNCH_CONTAINER_ENGINE", "podman"))
    if shutil.which(program[0]) is None or Path(program[0]).name != "podman":
        pytest.skip(f"needs podman, and {program[0]!r} is not there: OPENLAUNCH_CONTAINER_ENGINE names it")
    with _folder() as folder, pytest.MonkeyPatch.context() as patch:
        program += ["--root", f"{folder}/root", "--runroot", f"{folder}/runroot", "--tmpdir", f"{folder}/tmp"]
        # Locks in shared memory are those of all stores: tests that run at the same time would wait for each other.
        conf = Path(folder) / "containers.conf"
        conf.write_text('[engine]\nlock_type = "file"\n')
        patch.setenv("CONTAINERS_CONF", str(conf))
        engine = Engine(tuple(program), _run_options())
        try:
            _try_out(engine)
            yield engine
        finally:
            names = _run([*program, "ps", "--all", "--quiet"], check=False).stdout.split()
            if names:
                _run([*program, "rm", "--force", *names], check=False)


@contextmanager
def _folder() -> Iterator[str]:
    """A folder that is removed once nobody writes there: containers of killed servers are cleaned up aside."""
    folder = tempfile.mkdtemp(prefix="openlaunch-podman-")
    try:
        yield folder
    finally:
        deadline = time.monotonic() + SECONDS
        while Path(folder).exists():
            shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)
            time.sleep(0.05)


def _run_options() -> str:
    """This machine's programs and Python are seen inside, read-only."""
    seen = {"/usr", str(Path(sys.base_prefix).resolve())}
    mounts = [
        f"--volume={path}:{path}:ro"
        for path in sorted(seen)
        if path == "/usr" or not path.startswith("/usr/")
    ]
    return " ".join([os.environ.get("OPENLAUNCH_CONTAINER_RUN_OPTIONS", ""), shlex.join(mounts)])


def _try_out(engine: Engine) -> None:
    """Build the image and run it; skip the test where that fails."""
    try:
        engine.build(IMAGE[1], {})
        run = (
            "run",
            "--rm",
            *shlex.split(engine.run_options),
            ":".join(IMAGE),
            PYTHON,
            "-c",
            "print('it runs')",
        )
        engine.call(*run)
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["nothing"])[-1]
        pytest.skip(f"no container can be started here: it ended with {error.returncode} and said: {said}")


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:  # conmon leaves files in the current one
        return subprocess.run(
            command, cwd=folder, check=check, capture_output=True, text=True, timeout=SECONDS
        )
