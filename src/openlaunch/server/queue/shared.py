"""What the parts of the queue share."""

from dataclasses import dataclass

from openlaunch.artifacts.base import Artifacts
from openlaunch.background import BackgroundTasks
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.cluster.messages import Messages
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.settings import QueueSettings
from openlaunch.store.base import Store
from openlaunch.tasks.hub import Hub

MAX_TOGETHER = 512
"""The most tasks of several submissions, or results, that are stored together."""
MAX_TOGETHER_BYTES = 8 * 1024 * 1024
"""The most bytes that are stored together: a large statement takes a database long, and nothing waits forever."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The services that the parts of one server's queue work with, and its name as the owner of leases."""

    settings: QueueSettings
    store: Store
    artifacts: Artifacts
    lanes: Lanes
    schemas: SchemaCache
    hub: Hub
    background: BackgroundTasks
    quotas: Quotas
    lease_owner: str
    messages: Messages | None = None
    """Where the other servers of a cluster hear of tasks; None: this one is alone."""
