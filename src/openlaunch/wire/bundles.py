"""Model bundles on the wire (`/v2/model-bundles`)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, field_validator

from openlaunch.wire.quantities import SizeText
from openlaunch.wire.variables import check_start

BUNDLE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


DERIVED = "x-openlaunch-annotations"
"""In a schema that comes from a function's annotations: whether values are checked by it."""

BINARY = "x-openlaunch-binary"
"""In a schema of what is sent as bytes: what it is, such as an image."""


class BundleOrderBy(StrEnum):
    """How a list of bundles is ordered, by time of creation."""

    NEWEST = "newest"
    OLDEST = "oldest"


class PytorchFramework(BaseModel):
    """Recorded; the local engine builds the environment from `requirements`."""

    framework_type: Literal["pytorch"]
    pytorch_image_tag: str


class TensorflowFramework(BaseModel):
    """Recorded; the local engine builds the environment from `requirements`."""

    framework_type: Literal["tensorflow"]
    tensorflow_version: str


class CustomFramework(BaseModel):
    """Recorded; the local engine builds the environment from `requirements`."""

    framework_type: Literal["custom_base_image"]
    image_repository: str
    image_tag: str


Framework = Annotated[
    PytorchFramework | TensorflowFramework | CustomFramework, Field(discriminator="framework_type")
]


Requirements = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=1000)]


class ArtifactFlavor(BaseModel):
    """What the two artifact flavours share."""

    requirements: Requirements
    framework: Framework
    app_config: dict[str, Any] | None = None
    location: str = Field(description="Location of the bytes, s3://BUCKET/KEY, as the upload route named it.")
    python_version: str | None = Field(
        default=None,
        pattern=r"^3\.\d{1,2}$",
        description="Minor version of the Python that packed the bundle, such as 3.11. Default: the server's.",
    )
    is_generator: bool = Field(
        default=False,
        description="Whether predict is known to be a generator function, which needs a streaming endpoint.",
    )
    takes_context: bool = Field(
        default=False,
        description="Whether predict is known to take a context, for which the headers of async tasks are kept.",
    )


class CloudpickleArtifactFlavor(ArtifactFlavor):
    """A cloudpickle of `{"load_model_fn": f, "load_predict_fn": g}`."""

    flavor: Literal["cloudpickle_artifact"]
    load_predict_fn: str = Field(description="A name or source text for people; never run.")
    load_model_fn: str = Field(description="A name or source text for people; never run.")


class ZipArtifactFlavor(ArtifactFlavor):
    """A zip of directories, with the two functions named by dotted module path inside it."""

    flavor: Literal["zip_artifact"]
    load_predict_fn_module_path: str
    load_model_fn_module_path: str
    health_fn_module_path: str | None = None
    shutdown_fn_module_path: str | None = None


Route = Annotated[str, Field(pattern=r"^/[!-~]{0,500}$")]
_TRANSPORTS = (
    *("containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive"),
    *("ostree", "sif", "tarball"),
)
"""What podman takes, before a colon, for places that are not registries, most of them files of this machine."""


def _of_a_registry(repository: str) -> str:
    before, colon, _ = repository.partition(":")
    if colon and before.lower() in _TRANSPORTS:
        raise ValueError(f"{before}: names another place of images than a registry, which is not taken")
    return repository


ImageRepository = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=400
    ),
    AfterValidator(_of_a_registry),
]
ImageTag = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$")]
ReadySeconds = Annotated[int, Field(ge=1, le=6 * 3600)]
"""How long a server of the bundle's own may take until it answers."""


ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class OpenAIFace(BaseModel):
    """How a bundle speaks OpenAI: its endpoint is then a model of `/v1/models`, under the endpoint's name."""

    routes: list[Route] = Field(
        default=["/v1/chat/completions", "/v1/completions", "/v1/embeddings"],
        min_length=1,
        max_length=100,
        description="Routes of the bundle's HTTP server that requests pass through to as they come.",
    )
    models: list[ModelName] = Field(
        default=[], max_length=20, description="Further names of the model, beside the endpoint's own."
    )


class SleepRoutes(BaseModel):
    """The routes by which a bundle's HTTP server frees its GPUs and takes them again; the defaults are vLLM's."""

    sleep_route: Route = "/sleep?level=1"
    wake_route: Route = "/wake_up"
    asleep_route: Route = Field(
        default="/is_sleeping", description='Answers {"is_sleeping": true} while the server sleeps.'
    )


class CommandFlavor(BaseModel):
    """A command that serves HTTP on `$PORT`, in an environment built from `requirements`; ours, not Launch's."""

    flavor: Literal["command"]
    command: list[str] = Field(min_length=1, max_length=1000)
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    requirements: Requirements
    location: str = Field(
        default="", description="Location of a zip of the command's folder. Default: no files."
    )
    python_version: str | None = Field(default=None, pattern=r"^3\.\d{1,2}$")
    predict_route: Route = "/predict"
    streaming_predict_route: Route = "/stream"
    healthcheck_route: Route = "/readyz"
    readiness_initial_delay_seconds: ReadySeconds = 120
    routes: list[Route] = Field(
        default=[],
        max_length=100,
        description="Further routes that a prediction's destination_path may name.",
    )
    openai: OpenAIFace | None = None
    sleep: SleepRoutes | None = Field(
        default=None,
        description="A worker that others need the GPUs of sleeps by these routes, and does not end.",
    )


class ImageFlavor(BaseModel):
    """What the three flavours of container images share: an HTTP server on port 5005, or on the PORT of `env`."""

    repository: ImageRepository
    tag: ImageTag
    command: list[str] = Field(max_length=1000, description="Replaces the image's entry point.")
    predict_route: Route = "/predict"
    healthcheck_route: Route = "/readyz"
    env: dict[str, str] | None = Field(default=None, repr=False)
    protocol: Literal["http"]
    readiness_initial_delay_seconds: ReadySeconds = 120
    extra_routes: list[Route] = Field(
        default=[], max_length=100, description="Routes that a prediction's destination_path may name."
    )
    routes: list[Route] = Field(default=[], max_length=100, description="The same as extra_routes.")
    openai: OpenAIFace | None = Field(default=None, description="Ours, not Launch's.")
    forwarder_type: str | None = Field(default="default", description="Only default is supported.")
    worker_command: list[str] | None = Field(
        default=None, description="Recorded, without effect: a worker is on one node here."
    )
    worker_env: dict[str, str] | None = Field(
        default=None, repr=False, description="Recorded, without effect, as worker_command."
    )

    @field_validator("forwarder_type")
    @classmethod
    def _served(cls, value: str | None) -> str | None:
        if value not in (None, "default"):
            raise ValueError("no other than 'default' is served")
        return value

    @property
    def image(self) -> str:
        return full_image_name(self.repository, self.tag)


class RunnableImageFlavor(ImageFlavor):
    """A container image for sync and async endpoints."""

    flavor: Literal["runnable_image"]
    command: list[str] = Field(min_length=1, max_length=1000)


class StreamingEnhancedRunnableImageFlavor(ImageFlavor):
    """A container image that streams as well: `streaming_command` is run for streaming endpoints."""

    flavor: Literal["streaming_enhanced_runnable_image"]
    command: list[str] = Field(default=[], max_length=1000, description="Empty: the image's own.")
    streaming_command: list[str] = Field(min_length=1, max_length=1000)
    streaming_predict_route: Route = "/stream"


class TritonEnhancedRunnableImageFlavor(ImageFlavor):
    """A container image beside NVIDIA's Triton, which it reaches on localhost:8000 (HTTP) and 8001 (gRPC)."""

    flavor: Literal["triton_enhanced_runnable_image"]
    command: list[str] = Field(min_length=1, max_length=1000)
    triton_model_repository: str = Field(min_length=1, max_length=2000, pattern=r"^[^-:][^:]*(://.*)?$")
    triton_model_replicas: dict[str, str] | None = None
    triton_num_cpu: float = Field(gt=0)
    triton_commit_tag: ImageTag
    triton_storage: str | None = Field(default=None, description="Recorded, without effect.")
    triton_memory: SizeText | None = None
    triton_readiness_initial_delay_seconds: ReadySeconds = 300


def full_image_name(repository: str, tag: str) -> str:
    """Return an image's name; a tag may be a digest."""
    return f"{repository}@{tag}" if tag.startswith("sha256:") else f"{repository}:{tag}"


Flavor = Annotated[
    CloudpickleArtifactFlavor
    | ZipArtifactFlavor
    | CommandFlavor
    | RunnableImageFlavor
    | StreamingEnhancedRunnableImageFlavor
    | TritonEnhancedRunnableImageFlavor,
    Field(discriminator="flavor"),
]
FLAVOR: TypeAdapter[Flavor] = TypeAdapter(Flavor)
"""Reads a flavour from JSON."""


NO_FACE = OpenAIFace.model_construct(routes=[], models=[])
"""The routes and models of a bundle that does not speak OpenAI: none."""


def openai_face(flavor: Flavor) -> OpenAIFace:
    """Return how a bundle speaks OpenAI."""
    face: OpenAIFace | None = getattr(flavor, "openai", None)
    return NO_FACE if face is None else face


class CreateModelBundleRequest(BaseModel):
    """POST /v2/model-bundles."""

    name: str = Field(pattern=BUNDLE_NAME_PATTERN)
    metadata: dict[str, Any] | None = None
    schema_location: str
    flavor: Flavor

    @field_validator("flavor")
    @classmethod
    def _can_start(cls, value: Flavor) -> Flavor:
        # Here and not in the flavors, which are read from the store, too.
        if isinstance(value, CommandFlavor | ImageFlavor):
            check_start([*value.command, *getattr(value, "streaming_command", ())], value.env or {})
        return value


class DeleteModelBundleResponse(BaseModel):
    """DELETE /v2/model-bundles/{id}; ours, not Launch's."""

    deleted: bool


class CreateModelBundleResponse(BaseModel):
    """The id of the bundle that was made."""

    model_bundle_id: str


class CloneModelBundleRequest(BaseModel):
    """POST /v2/model-bundles/clone-with-changes: the same bundle with another `app_config`."""

    original_model_bundle_id: str
    new_app_config: dict[str, Any] | None = None


class ModelBundleResponse(BaseModel):
    """One bundle."""

    id: str
    name: str
    metadata: dict[str, Any]
    created_at: datetime
    model_artifact_ids: list[str]
    schema_location: str | None = None
    flavor: Flavor
    owner: str | None = None
    version: int | None = Field(default=None, description="1 for the owner's first bundle of this name.")


class ListModelBundlesResponse(BaseModel):
    """GET /v2/model-bundles."""

    model_bundles: list[ModelBundleResponse]


class UploadResponse(BaseModel):
    """Where to PUT bytes, and how to name them afterwards: `s3://{bucket}/{key}`."""

    signedUrl: str  # noqa: N815 -- the contract's spelling
    bucket: str
    key: str
