"""Triggers: docker-image batch jobs at the times of a cron schedule."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from openlaunch.wire.bundles import BUNDLE_NAME_PATTERN


class CreateTriggerRequest(BaseModel):
    """POST /v1/triggers."""

    name: str = Field(pattern=BUNDLE_NAME_PATTERN)
    cron_schedule: str = Field(max_length=200, description="Minute, hour, day, month and weekday, in UTC.")
    bundle_id: str = Field(description="Id of a bundle of docker-image batch jobs.")
    default_job_config: dict[str, Any] | None = Field(default=None, repr=False)
    default_job_metadata: dict[str, str] | None = Field(default=None, description="Labels of its jobs.")


class CreateTriggerResponse(BaseModel):
    """The id of the new trigger."""

    trigger_id: str


class TriggerResponse(BaseModel):
    """One trigger. The last two fields are ours."""

    id: str
    name: str
    owner: str
    created_by: str
    created_at: datetime
    cron_schedule: str
    docker_image_batch_job_bundle_id: str
    default_job_config: dict[str, Any] | None = Field(default=None, repr=False)
    default_job_metadata: dict[str, str] | None = None
    suspended: bool
    next_at: datetime | None = Field(description="Next time that it fires; null while it is suspended.")


class ListTriggersResponse(BaseModel):
    """GET /v1/triggers."""

    triggers: list[TriggerResponse]


class UpdateTriggerRequest(BaseModel):
    """PUT /v1/triggers/{id}. Omitted fields stay unchanged."""

    cron_schedule: str | None = Field(default=None, max_length=200)
    suspend: bool | None = None


class UpdateTriggerResponse(BaseModel):
    """Whether the trigger was changed."""

    success: bool


class DeleteTriggerResponse(BaseModel):
    """The answer to DELETE /v1/triggers/{id}."""

    success: bool
