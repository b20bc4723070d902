"""Endpoints of language models (`/v1/llm/model-endpoints`), as llm-engine's client has them."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from openlaunch.wire.endpoint_settings import EndpointSettings
from openlaunch.wire.endpoints import ENDPOINT_NAME_PATTERN, EndpointStatus, ModelEndpointResponse


class Framework(StrEnum):
    """The engine that serves a model. The contract's others are refused."""

    VLLM = "vllm"
    SGLANG = "sglang"


class Quantization(StrEnum):
    """How weights are quantized."""

    BITSANDBYTES = "bitsandbytes"
    AWQ = "awq"


VERSION = r"^(latest|[0-9][0-9A-Za-z.+!-]{0,63})$"


class _LLMSettings(EndpointSettings):
    """The settings of an endpoint and its model. What else is given, such as `max_model_len`, is for the engine."""

    model_config = ConfigDict(extra="allow")

    source: Literal["hugging_face"] | None = None
    inference_framework: Framework | None = None
    inference_framework_image_tag: str | None = Field(
        default=None, pattern=VERSION, description="Version of the engine's package. Default: the newest."
    )
    num_shards: int | None = Field(
        default=None, ge=1, le=1000, description="GPUs that the model is split over."
    )
    quantize: Quantization | None = None
    checkpoint_path: str | None = Field(
        default=None,
        max_length=2000,
        description="The weights: hf://ORG/REPO@REVISION, s3://BUCKET/KEY (gs://, az://), https:// of a file, or "
        "file:///PATH. Default: `model_name` at Hugging Face, at `revision`.",
    )
    chat_template_override: str | None = Field(default=None, max_length=100_000)
    endpoint_type: Literal["streaming"] | None = None


class CreateLLMEndpointRequest(_LLMSettings):
    """POST /v1/llm/model-endpoints. Hardware that is not given has the usual defaults, and `num_shards` GPUs."""

    name: str = Field(max_length=63, pattern=ENDPOINT_NAME_PATTERN)
    model_name: str = Field(min_length=1, max_length=200)
    nodes_per_worker: int | None = None


class UpdateLLMEndpointRequest(_LLMSettings):
    """PUT /v1/llm/model-endpoints/{name}. What is omitted, or null, stays as it is."""

    model_name: str | None = Field(default=None, min_length=1, max_length=200)
    force_bundle_recreation: bool | None = None


class ModelCard(BaseModel):
    """Which model an endpoint serves, and how: what its `metadata` has as `_llm`."""

    model_name: str
    source: str = "hugging_face"
    inference_framework: Framework = Framework.VLLM
    inference_framework_image_tag: str = "latest"
    num_shards: int = 1
    quantize: Quantization | None = None
    checkpoint_path: str | None = None
    chat_template_override: str | None = None
    engine_args: dict[str, Any] = {}


class LLMEndpointResponse(BaseModel):
    """One endpoint; of another owner's is shown what its callers need."""

    id: str
    name: str
    model_name: str
    source: str
    status: EndpointStatus
    inference_framework: Framework
    inference_framework_image_tag: str | None = None
    num_shards: int | None = None
    quantize: Quantization | None = None
    checkpoint_path: str | None = None
    chat_template_override: str | None = None
    spec: ModelEndpointResponse | None = None


class ListLLMEndpointsResponse(BaseModel):
    """GET /v1/llm/model-endpoints."""

    model_endpoints: list[LLMEndpointResponse]


class DownloadRequest(BaseModel):
    """POST /v1/llm/model-endpoints/download."""

    model_name: str
    download_format: str = "hugging_face"


class DownloadResponse(BaseModel):
    """URLs of the files of a model, by their names."""

    urls: dict[str, str]
