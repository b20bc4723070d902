"""Where a task's result is sent."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a task's result is POSTed; `auth` as the wire has it. `progress`: what it says before, too."""

    url: str
    auth: dict[str, Any] | None = field(default=None, repr=False)
    progress: bool = False
