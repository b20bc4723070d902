"""Model bundles (`/v2/model-bundles`)."""

from collections.abc import AsyncIterable
from dataclasses import replace

from fastapi import Response

from openlaunch.artifacts.locations import BUNDLES_FOLDER
from openlaunch.errors import PayloadTooLarge, Unprocessable
from openlaunch.server import clock
from openlaunch.server.access.auth import Principal
from openlaunch.server.control.answers import InPages, listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.artifacts import check_uploaded
from openlaunch.server.control.routes.callers import User, named
from openlaunch.server.control.routing import BundleRoute, ControlRouter
from openlaunch.server.endpoints.lookups import find_bundle, found
from openlaunch.store import bundles as bundle_store
from openlaunch.store.records import BundleRecord
from openlaunch.wire import routes
from openlaunch.wire.bundles import (
    ArtifactFlavor,
    BundleOrderBy,
    CloneModelBundleRequest,
    CommandFlavor,
    CreateModelBundleRequest,
    CreateModelBundleResponse,
    DeleteModelBundleResponse,
    ListModelBundlesResponse,
    ModelBundleResponse,
)
from openlaunch.wire.ids import object_id

MAX_SCHEMA_BYTES = 256 * 1024


def router(context: Context) -> ControlRouter:
    """Create, clone, list and get bundles."""
    api = ControlRouter(route_class=BundleRoute, prefix=routes.BUNDLES, tags=["bundles"])

    @api.post("")
    async def create_model_bundle(body: CreateModelBundleRequest, user: User) -> CreateModelBundleResponse:
        """Create a bundle from bytes that were uploaded before."""
        return CreateModelBundleResponse(model_bundle_id=await store_bundle(context, body, user.owner))

    @api.post("/clone-with-changes")
    async def clone_model_bundle(body: CloneModelBundleRequest, user: User) -> CreateModelBundleResponse:
        """Create a copy of a bundle with another `app_config`; it becomes the newest of its name."""
        return CreateModelBundleResponse(model_bundle_id=await clone_bundle(context, body, user.owner))

    @api.get("", response_model=ListModelBundlesResponse)
    async def list_model_bundles(
        user: User,
        model_name: str | None = None,
        order_by: BundleOrderBy | None = None,
        commands: bool = False,
    ) -> Response:
        """List the caller's bundles, newest first unless asked otherwise.

        Bundles of commands are listed only with `commands`, because Launch's client can't read them.
        """
        found = await bundles_of(context, user, model_name, order_by)
        records = (
            record async for record in found if commands or not isinstance(record.flavor, CommandFlavor)
        )
        return listed("model_bundles", records, _response)

    @api.get("/latest")
    async def get_latest_model_bundle(model_name: str, user: User) -> ModelBundleResponse:
        """Get the newest bundle of a name."""
        return _response(await latest_bundle(context, model_name, user))

    @api.get("/{model_bundle_id}")
    async def get_model_bundle(model_bundle_id: str, user: User) -> ModelBundleResponse:
        """Get one bundle."""
        return _response(await find_bundle(context.store, model_bundle_id, user.owner))

    @api.delete("/{model_bundle_id}")
    async def delete_model_bundle(model_bundle_id: str, user: User) -> DeleteModelBundleResponse:
        """Delete a bundle that no endpoint and no batch job names. Its bytes go within a day or two."""
        owner = user.owner
        await find_bundle(context.store, model_bundle_id, owner)
        await context.store.write(lambda conn: bundle_store.delete(conn, model_bundle_id), owner)
        return DeleteModelBundleResponse(deleted=True)

    return api


async def store_bundle(context: Context, body: CreateModelBundleRequest, owner: str) -> str:
    """Store a new bundle, and return its id; the owner has to have uploaded what it names."""
    if isinstance(body.flavor, ArtifactFlavor) or (
        isinstance(body.flavor, CommandFlavor) and body.flavor.location
    ):
        await check_uploaded(context, BUNDLES_FOLDER, body.flavor.location, owner)
    record = BundleRecord(
        id=object_id("bun"),
        owner=owner,
        name=body.name,
        flavor=body.flavor,
        metadata=body.metadata or {},
        schema_location=body.schema_location or None,
        schemas=await _read_schemas(context, body.schema_location, owner) if body.schema_location else {},
        created_at=clock.now(),
    )
    await context.store.write(lambda conn: bundle_store.insert(conn, record), owner)
    return record.id


async def clone_bundle(context: Context, body: CloneModelBundleRequest, owner: str) -> str:
    """Store a bundle like another one but with its own app_config, and return its id."""
    original = await find_bundle(context.store, body.original_model_bundle_id, owner)
    if not isinstance(original.flavor, ArtifactFlavor):
        kind = original.flavor.flavor
        raise Unprocessable(f"the bundle {original.name!r} is a {kind}, which has no app_config to change")
    flavor = original.flavor.model_copy(update={"app_config": body.new_app_config})
    clone = replace(original, id=object_id("bun"), flavor=flavor, created_at=clock.now())
    await context.store.write(lambda conn: bundle_store.insert(conn, clone), owner)
    return clone.id


async def bundles_of(
    context: Context, caller: Principal, name: str | None, order_by: BundleOrderBy | None
) -> AsyncIterable[BundleRecord]:
    """Give the caller's bundles, of this name only where one is given, newest first unless asked otherwise.

    What is refused is refused before the answer begins.
    """
    newest_first = order_by is not BundleOrderBy.OLDEST
    owner, own_name = named(context, caller, name)
    ids = await context.store.read(
        lambda conn: bundle_store.ids_of_owner(conn, owner, own_name, newest_first), owner
    )
    return InPages(context.store, ids, bundle_store.get_many, owner)


async def latest_bundle(context: Context, full_name: str, caller: Principal) -> BundleRecord:
    """Return the newest bundle of a name, or raise NotFound."""
    owner, name = named(context, caller, full_name)
    record = await context.store.read(lambda conn: bundle_store.latest(conn, owner, name or ""), owner)
    return found(record, f"no bundle has the name {name!r}", "bundle_not_found")


async def _read_schemas(context: Context, location: str, owner: str) -> dict[str, object]:
    key = await check_uploaded(context, BUNDLES_FOLDER, location, owner)
    try:
        data = await context.artifacts.get(key, MAX_SCHEMA_BYTES)
    except PayloadTooLarge:
        raise Unprocessable(
            f"the schemas at {location!r} are too large, the limit is {MAX_SCHEMA_BYTES} bytes"
        ) from None
    return await context.schemas.checks.schemas(owner, data)


def _response(record: BundleRecord) -> ModelBundleResponse:
    return shown(ModelBundleResponse, record, model_artifact_ids=[])
