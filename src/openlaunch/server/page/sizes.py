"""How many bytes the uploads of bundles have, which the page shows beside them."""

from openlaunch.artifacts.locations import BUNDLES_FOLDER, location_of, upload_folder
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire.keys import ALL_OWNERS

MAX_SHOWN = 10_000
"""Uploads whose sizes are in one answer."""


def add_sizes(api: ControlRouter, context: Context) -> None:
    """Add the route of the page for the sizes of bundles."""

    @api.get("/page/sizes/bundles")
    async def get_bundle_sizes(user: User) -> dict[str, int]:
        everybody = user.owner == ALL_OWNERS
        folder = f"{BUNDLES_FOLDER}/" if everybody else upload_folder(BUNDLES_FOLDER, user.owner)
        found: dict[str, int] = {}
        async for page in context.artifacts.pages(folder):
            found |= {location_of(artifact.key): artifact.size for artifact in page}
            if len(found) >= MAX_SHOWN:
                break
        return found
