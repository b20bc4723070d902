"""Triggers: docker-image batch jobs, or tasks of an async endpoint, at the times of a cron schedule."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from openlaunch.wire.bundles import BUNDLE_NAME_PATTERN

MAX_TRIGGERS = 500
"""The most triggers of one owner."""


class CreateTriggerRequest(BaseModel):
    """POST /v1/triggers."""

    name: str = Field(pattern=BUNDLE_NAME_PATTERN)
    cron_schedule: str = Field(max_length=200, description="Minute, hour, day, month and weekday, in UTC.")
    bundle_id: str | None = Field(default=None, description="Id of a bundle of docker-image batch jobs.")
    default_job_config: dict[str, Any] | None = Field(default=None, repr=False)
    default_job_metadata: dict[str, str] | None = Field(default=None, description="Labels of its jobs.")
    endpoint: str | None = Field(
        default=None,
        description="Name of your async endpoint that gets a task each time, in place of a bundle.",
    )
    args: dict[str, Any] | None = Field(
        default=None, repr=False, description="What its tasks are given. Default: nothing."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.bundle_id is None) == (self.endpoint is None):
            raise ValueError("give one of bundle_id, which runs an image, and endpoint, which gets a task")
        if self.endpoint is None and self.args is not None:
            raise ValueError("args are for an endpoint: a bundle of image jobs has default_job_config")
        if self.endpoint is not None and (self.default_job_config or self.default_job_metadata):
            raise ValueError(
                "default_job_config and default_job_metadata are for image jobs: an endpoint has args"
            )
        return self


class CreateTriggerResponse(BaseModel):
    """The id of the new trigger."""

    trigger_id: str


class TriggerResponse(BaseModel):
    """One trigger. The fields from `suspended` on are ours."""

    id: str
    name: str
    owner: str
    created_by: str
    created_at: datetime
    cron_schedule: str
    docker_image_batch_job_bundle_id: str = Field(description="Empty for a trigger of an endpoint.")
    default_job_config: dict[str, Any] | None = Field(default=None, repr=False)
    default_job_metadata: dict[str, str] | None = None
    suspended: bool
    next_at: datetime | None = Field(description="Next time that it fires; null while it is suspended.")
    endpoint: str | None = Field(default=None, description="Name of the endpoint that gets its tasks.")
    args: dict[str, Any] | None = Field(default=None, repr=False)
    last_at: datetime | None = Field(default=None, description="Last time that it fired, of an endpoint.")
    last_task_id: str | None = Field(default=None, description="The task of its last time.")
    last_error: str | None = Field(default=None, description="Why its last time has no task.")


class ListTriggersResponse(BaseModel):
    """GET /v1/triggers."""

    triggers: list[TriggerResponse]


class UpdateTriggerRequest(BaseModel):
    """PUT /v1/triggers/{id}. Omitted fields stay unchanged."""

    cron_schedule: str | None = Field(default=None, max_length=200)
    args: dict[str, Any] | None = Field(default=None, repr=False, description="Of a trigger of an endpoint.")
    suspend: bool | None = None


class UpdateTriggerResponse(BaseModel):
    """Whether the trigger was changed."""

    success: bool


class DeleteTriggerResponse(BaseModel):
    """The answer to DELETE /v1/triggers/{id}."""

    success: bool
