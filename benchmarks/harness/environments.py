"""A virtual environment for each system, built with uv when its requirements have changed."""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".bench"


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """The environment's `bin` folder. `.` among the requirements is this checkout."""
    folder = WORK / "venvs" / name
    mark = folder / "requirements"
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        print(f"building the environment of {name} …", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python"]
        subprocess.run([*install, *requirements], check=True, cwd=ROOT)
        mark.write_text(wanted)
    return folder / "bin"


def versions(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of packages in a system's environment."""
    code = "import importlib.metadata as m, sys; print(*(m.version(p) for p in sys.argv[1:]), sep='\\n')"
    python = WORK / "venvs" / name / "bin" / "python"
    printed = subprocess.run(
        [python, "-c", code, *packages], check=True, capture_output=True, text=True
    ).stdout.split()
    return dict(zip(packages, printed, strict=True))
