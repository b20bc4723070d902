"""What holds the disk; for admins."""

from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Admin
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.storage import StorageResponse


def router(context: Context) -> ControlRouter:
    """Show what holds the disk."""
    api = ControlRouter(tags=["storage"])

    @api.get(routes.STORAGE)
    async def get_storage(_: Admin) -> StorageResponse:
        """Get what lies in the data directory by kind, when each kind is deleted, and the room on the disk."""
        return await context.storage.report()

    return api
