"""The controller's settings. Times are seconds."""

from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.controller.situation import Policy


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """`logs` is the folder for the logs of endpoints.

    A worker that is stopped gets `stop_grace` to end by itself; one that lost its connection, or could not
    load, `lost_grace`; the workers of an endpoint that is deleted get `delete_grace` to finish what they run, and one
    in which something does not stop gets `stuck_grace` for what else runs there. With `limit_memory`, an endpoint's
    `memory` is a bound for what each of its workers uses.
    """

    logs: Path
    limit_memory: bool = True
    scale_down_after: float = 30.0
    tick: float = 0.5
    stop_grace: float = 5.0
    lost_grace: float = 1.0
    delete_grace: float = 30.0
    stuck_grace: float = 30.0
    policy: Policy = field(default_factory=Policy)
