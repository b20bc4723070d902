"""Command lines that run a module of the runtime in an environment, in which no file belongs to the runtime."""

import sys
from pathlib import Path
from typing import Final

RUNTIME: Final = Path(__file__).parent.parent
"""The folder that this runtime is imported from."""

_CODE: Final = """\
import sys
sys.path = [*filter(None, sys.path), {runtime!r}]
from {module} import main
sys.exit(main())"""
"""The runtime comes last, so that what a bundle pins wins. The working directory, an empty path, is left out."""


def module_command(python: str | Path, module: str, runtime: str | Path) -> list[str]:
    """Return a command that calls `main` of a module of the runtime; arguments may be appended."""
    return [str(python), "-c", _CODE.format(runtime=str(runtime), module=module)]


def own_command(module: str) -> list[str]:
    """Return a command for a further process of this environment, whatever variables it is started with."""
    python, *code = module_command(sys.executable, module, RUNTIME)
    return [python, "-I", *code]
