"""Model bundles in their first form (`/v1/model-bundles`), as older programs send and read them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from openlaunch.wire.bundles import BUNDLE_NAME_PATTERN, Requirements


class FrameworkType(StrEnum):
    """The contract's frameworks."""

    PYTORCH = "pytorch"
    TENSORFLOW = "tensorflow"
    CUSTOM = "custom_base_image"


class PackagingType(StrEnum):
    """How the bundle's bytes are packed; `lira` is in the contract and served by nobody."""

    CLOUDPICKLE = "cloudpickle"
    ZIP = "zip"
    LIRA = "lira"


class EnvParams(BaseModel):
    """Recorded; the local engine builds the environment from `requirements`."""

    framework_type: FrameworkType
    pytorch_image_tag: str | None = None
    tensorflow_version: str | None = None
    ecr_repo: str | None = None
    image_tag: str | None = None


class CreateModelBundleV1Request(BaseModel):
    """POST /v1/model-bundles. A zip's two functions are named in the metadata, by dotted module path."""

    name: str = Field(pattern=BUNDLE_NAME_PATTERN)
    location: str
    requirements: Requirements
    env_params: EnvParams
    packaging_type: PackagingType
    metadata: dict[str, Any] | None = None
    app_config: dict[str, Any] | None = None
    schema_location: str | None = None


class ModelBundleV1Response(BaseModel):
    """One bundle."""

    id: str
    name: str
    location: str
    requirements: list[str]
    env_params: EnvParams
    packaging_type: PackagingType
    metadata: dict[str, Any]
    app_config: dict[str, Any] | None = None
    created_at: datetime
    model_artifact_ids: list[str]
    schema_location: str | None = None


class ListModelBundlesV1Response(BaseModel):
    """GET /v1/model-bundles."""

    model_bundles: list[ModelBundleV1Response]
