"""Model bundles in their first form (`/v1/model-bundles`): the same bundles in older words."""

from typing import Any

from fastapi import Response

from openlaunch.server.control.answers import listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.bundles import bundles_of, clone_bundle, latest_bundle, store_bundle
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import BundleRoute, ControlRouter
from openlaunch.server.endpoints.lookups import find_bundle
from openlaunch.server.endpoints.specs import made_of, wrong_field
from openlaunch.store.records import BundleRecord
from openlaunch.wire import routes
from openlaunch.wire.bundles import (
    ArtifactFlavor,
    BundleOrderBy,
    CloneModelBundleRequest,
    CommandFlavor,
    CreateModelBundleRequest,
    CreateModelBundleResponse,
    Flavor,
    ImageFlavor,
)
from openlaunch.wire.bundles_v1 import (
    CreateModelBundleV1Request,
    EnvParams,
    FrameworkType,
    ListModelBundlesV1Response,
    ModelBundleV1Response,
    PackagingType,
)

_PACKAGING = {"cloudpickle_artifact": PackagingType.CLOUDPICKLE, "zip_artifact": PackagingType.ZIP}
_ZIP_PATHS = ("load_predict_fn_module_path", "load_model_fn_module_path")
_SOURCES = ("load_predict_fn", "load_model_fn")


def router(context: Context) -> ControlRouter:
    """Create, clone, list and get bundles."""
    api = ControlRouter(route_class=BundleRoute, prefix=routes.BUNDLES_V1, tags=["bundles"])

    @api.post("")
    async def create_model_bundle_v1(
        body: CreateModelBundleV1Request, user: User
    ) -> CreateModelBundleResponse:
        """Create a bundle from bytes that were uploaded before."""
        bundle_id = await store_bundle(context, _as_v2(body), user.owner)
        return CreateModelBundleResponse(model_bundle_id=bundle_id)

    @api.post("/clone-with-changes")
    async def clone_model_bundle_v1(body: CloneModelBundleRequest, user: User) -> CreateModelBundleResponse:
        """Create a copy of a bundle with another `app_config`; it becomes the newest of its name."""
        return CreateModelBundleResponse(model_bundle_id=await clone_bundle(context, body, user.owner))

    @api.get("", response_model=ListModelBundlesV1Response)
    async def list_model_bundles_v1(
        user: User, model_name: str | None = None, order_by: BundleOrderBy | None = None
    ) -> Response:
        """List the caller's bundles, newest first unless asked otherwise."""
        found = await bundles_of(context, user, model_name, order_by)
        return listed("model_bundles", found, _response)

    @api.get("/latest")
    async def get_latest_model_bundle_v1(model_name: str, user: User) -> ModelBundleV1Response:
        """Get the newest bundle of a name."""
        return _response(await latest_bundle(context, model_name, user))

    @api.get("/{model_bundle_id}")
    async def get_model_bundle_v1(model_bundle_id: str, user: User) -> ModelBundleV1Response:
        """Get one bundle."""
        return _response(await find_bundle(context.store, model_bundle_id, user.owner))

    return api


def _as_v2(body: CreateModelBundleV1Request) -> CreateModelBundleRequest:
    metadata = body.metadata or {}
    return made_of(
        CreateModelBundleRequest,
        {
            "name": body.name,
            "metadata": metadata,
            "schema_location": body.schema_location or "",
            "flavor": {
                **_functions(body.packaging_type, metadata),
                "requirements": body.requirements,
                "framework": _framework(body.env_params),
                "app_config": body.app_config,
                "location": body.location,
            },
        },
    )


def _functions(packaging: PackagingType, metadata: dict[str, Any]) -> dict[str, str]:
    if packaging is PackagingType.CLOUDPICKLE:
        return {"flavor": "cloudpickle_artifact", **{name: str(metadata.get(name, "")) for name in _SOURCES}}
    if packaging is PackagingType.ZIP:
        missing = [name for name in _ZIP_PATHS if not isinstance(metadata.get(name), str)]
        if missing:
            raise wrong_field("metadata", f"a zip needs {' and '.join(missing)} here, as dotted module paths")
        return {"flavor": "zip_artifact", **{name: metadata[name] for name in _ZIP_PATHS}}
    raise wrong_field("packaging_type", f"it is {packaging.value!r}, cloudpickle or zip is served")


def _framework(env: EnvParams) -> dict[str, str]:
    match env.framework_type:
        case FrameworkType.PYTORCH:
            return {"framework_type": "pytorch", "pytorch_image_tag": env.pytorch_image_tag or ""}
        case FrameworkType.TENSORFLOW:
            return {"framework_type": "tensorflow", "tensorflow_version": env.tensorflow_version or ""}
        case FrameworkType.CUSTOM:
            image = {"image_repository": env.ecr_repo or "", "image_tag": env.image_tag or ""}
            return {"framework_type": "custom_base_image", **image}


def _response(record: BundleRecord) -> ModelBundleV1Response:
    """Return the bundle in this form, as far as it has words for it: it has none for images and commands.

    Launch's client looks here for the id of every bundle that it makes an endpoint of.
    """
    flavor = record.flavor
    packed = None if isinstance(flavor, ImageFlavor) else flavor
    return shown(
        ModelBundleV1Response,
        record,
        location="" if packed is None else packed.location,
        requirements=[] if packed is None else packed.requirements,
        env_params=_env_params(flavor),
        packaging_type=_PACKAGING.get(flavor.flavor, PackagingType.CLOUDPICKLE),
        app_config=flavor.app_config if isinstance(flavor, ArtifactFlavor) else None,
        model_artifact_ids=[],
    )


def _env_params(flavor: Flavor) -> EnvParams:
    if isinstance(flavor, ImageFlavor):
        return EnvParams(
            framework_type=FrameworkType.CUSTOM, ecr_repo=flavor.repository, image_tag=flavor.tag
        )
    if isinstance(flavor, CommandFlavor):
        return EnvParams(framework_type=FrameworkType.CUSTOM)
    framework = flavor.framework.model_dump()
    return EnvParams.model_validate(framework | {"ecr_repo": framework.get("image_repository")})
