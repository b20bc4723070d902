"""What holds the server's disk; for admins."""

from openlaunch.client.effects import Flow
from openlaunch.client.models import got
from openlaunch.wire import routes
from openlaunch.wire.storage import StorageResponse


def get_storage() -> Flow[StorageResponse]:
    """Get what lies in the server's data directory by kind, when each kind is deleted, and the room on the disk."""
    return (yield from got(StorageResponse, routes.STORAGE))
