"""Has `import openlaunch` find what models need of it, where the environment does not have the package itself."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

_FOLDER: Final = Path(__file__).with_name("stand_in")


class StandIn(MetaPathFinder):
    """Finds the stand-in; it comes last, so that an installed package wins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "openlaunch":
            return None
        return spec_from_file_location(
            fullname, _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
        )


def install() -> None:
    """Have the stand-in found from now on."""
    sys.meta_path.append(StandIn())
