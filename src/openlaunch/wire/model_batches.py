"""Batches of requests to models (`/v1/batches`), as OpenAI's Batch API has them."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

MAX_METADATA = 16
WINDOW_PATTERN = r"^([1-9][0-9]{0,4})([smhd])$"
WINDOW_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_WINDOW_SECONDS = 30 * 24 * 3600.0


class BatchStatus(StrEnum):
    """Status of a batch."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


Metadata = dict[
    Annotated[str, Field(max_length=64)],
    Annotated[str, Field(max_length=512)],
]


class CreateBatchRequest(BaseModel):
    """POST /v1/batches."""

    input_file_id: str = Field(description="A file of JSON lines that was uploaded to /v1/files.")
    endpoint: str = Field(description="The route of all its requests, such as /v1/chat/completions.")
    completion_window: str = Field(
        default="24h",
        pattern=WINDOW_PATTERN,
        description="Time after which what is not done ends as expired, such as 24h; at most 30d.",
    )
    metadata: Metadata | None = Field(default=None, max_length=MAX_METADATA)
    output_expires_after: Any = Field(
        default=None, description="Refused: files are kept until they are deleted."
    )


class RequestCounts(BaseModel):
    """How many lines there are, and how many ended with an answer and without."""

    total: int
    completed: int
    failed: int


class BatchError(BaseModel):
    """Why a batch as a whole failed."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(BaseModel):
    """Why a batch as a whole failed, as a list."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class BatchInputDetails(BaseModel):
    """Which of the tokens of the inputs were in the engine's cache."""

    cached_tokens: int


class BatchOutputDetails(BaseModel):
    """Which of the tokens of the outputs were for reasoning."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """The tokens of a batch's answers, as their engines say; estimated where an engine does not say them."""

    input_tokens: int
    input_tokens_details: BatchInputDetails
    output_tokens: int
    output_tokens_details: BatchOutputDetails
    total_tokens: int


class BatchResponse(BaseModel):
    """One batch. Times are seconds since the epoch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: BatchUsage | None = None
    metadata: dict[str, Any] | None = None
    owner: str | None = None


class ListBatchesResponse(BaseModel):
    """GET /v1/batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchResponse]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool
