"""The controller's settings. Times are seconds."""

from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.controller.situation import Policy


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """`logs` is the folder for the logs of endpoints.

    `stop_grace` is the time between SIGTERM and SIGKILL of a worker that is stopped, `lost_grace` that of a worker
    that has lost its connection or could not load. The workers of an endpoint that is deleted have `delete_grace` to
    finish what they run; a worker in which something does not stop has `stuck_grace` for what else it runs. With
    `limit_memory`, an endpoint's `memory` bounds what each of its workers uses. An endpoint is looked at after each
    event, and every `tick`.
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
