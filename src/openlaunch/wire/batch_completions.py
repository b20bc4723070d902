"""Batch completions (`/v1/llm/batch-completions`, `/v2/batch-completions`), as llm-engine's client has them."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openlaunch.wire.model_batches import MAX_METADATA, Metadata

MAX_RUNTIME_SECONDS = 2 * 24 * 3600
MAX_REQUESTS = 50_000
GUIDES = ("json", "regex", "choice", "grammar")
"""What a completion can be guided by, one of them: `guided_json` and so on."""


class CompletionsStatus(StrEnum):
    """Status of a job of batch completions."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sampling(BaseModel):
    """How prompts are completed, in llm-engine's first version."""

    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0, le=1)
    stop_sequences: list[str] | None = None
    return_token_log_probs: bool | None = False
    presence_penalty: float | None = Field(default=None, ge=0, le=2)
    frequency_penalty: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=-1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    skip_special_tokens: bool | None = True

    @model_validator(mode="after")
    def _is_sampled_or_not(self) -> Self:
        if self.temperature == 0 and (self.top_k not in (None, -1) or self.top_p not in (None, 1)):
            raise ValueError("with a temperature of 0, top_k is -1 and top_p is 1: leave them out")
        return self


class V1Content(Sampling):
    """Prompts, and what is the same for all of them."""

    prompts: list[str] = Field(min_length=1, max_length=MAX_REQUESTS)


class CompletionV1Request(Sampling):
    """POST /v1/llm/completions-sync and /v1/llm/completions-stream."""

    prompt: str
    include_stop_str_in_output: bool | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @model_validator(mode="after")
    def _is_guided_once(self) -> Self:
        if sum(getattr(self, f"guided_{kind}") is not None for kind in GUIDES) > 1:
            raise ValueError(f"give only one of {', '.join(f'guided_{kind}' for kind in GUIDES)}")
        return self


Content = V1Content | Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_REQUESTS)]


class CompletionsModel(BaseModel):
    """Which model answers; what else is given here says how to start an engine, and is refused."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="Name of an endpoint that speaks OpenAI.")
    labels: Metadata | None = Field(default=None, max_length=MAX_METADATA)


class _Completions(BaseModel):
    """POST /v1/llm/batch-completions and /v2/batch-completions."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    config: CompletionsModel = Field(alias="model_config")
    input_data_path: str | None = Field(
        default=None, description="Id of a file of /v1/files with the content as JSON, in place of `content`."
    )
    output_data_path: str = Field(
        min_length=1, max_length=1000, description="Name of the file of answers in /v1/files."
    )
    labels: Metadata | None = Field(default=None, max_length=MAX_METADATA)
    max_runtime_sec: int | None = Field(
        default=24 * 3600,
        ge=1,
        le=MAX_RUNTIME_SECONDS,
        description="Seconds after which what is not done ends as failed.",
    )


class CreateCompletionsV1Request(_Completions):
    """POST /v1/llm/batch-completions."""

    content: V1Content | None = None


class CreateCompletionsRequest(_Completions):
    """POST /v2/batch-completions."""

    content: Content | None = None


class CreateCompletionsV1Response(BaseModel):
    """Answer of POST /v1/llm/batch-completions."""

    job_id: str


class CompletionsJob(BaseModel):
    """One job. Times are in ISO 8601."""

    model_config = ConfigDict(populate_by_name=True)

    job_id: str
    input_data_path: str | None = None
    output_data_path: str = Field(
        description="Id of the file of answers in /v1/files, once the job has ended."
    )
    config: dict[str, Any] = Field(alias="model_config")
    priority: str | None = None
    status: CompletionsStatus
    created_at: str
    expires_at: str
    completed_at: str | None
    metadata: dict[str, str] | None


class GetCompletionsResponse(BaseModel):
    """GET /v2/batch-completions/{id}."""

    job: CompletionsJob


class CancelCompletionsResponse(BaseModel):
    """POST /v2/batch-completions/{id}/actions/cancel."""

    success: bool
