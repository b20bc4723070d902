"""Subscriptions to notifications (`/v1/subscriptions`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

MAX_SUBSCRIPTIONS = 20
"""The most subscriptions of one owner."""


class NotificationKind(StrEnum):
    """What is notified of. ENDPOINT_FAILED: it can't serve, or many of its predictions fail."""

    ENDPOINT_FAILED = "endpoint_failed"
    ENDPOINT_RECOVERED = "endpoint_recovered"
    QUEUE_OLD = "queue_old"
    QUEUE_CAUGHT_UP = "queue_caught_up"
    BATCH_JOB_ENDED = "batch_job_ended"


class CreateSubscriptionRequest(BaseModel):
    """POST /v1/subscriptions."""

    url: str = Field(max_length=8192, description="An http:// or https:// URL.")
    events: list[NotificationKind] = Field(
        default_factory=lambda: list(NotificationKind),
        min_length=1,
        max_length=20,
        description="Default: all.",
    )


class SubscriptionResponse(BaseModel):
    """Where an owner has notifications sent, and of what."""

    id: str
    owner: str
    url: str
    events: list[NotificationKind]
    created_at: datetime


class ListSubscriptionsResponse(BaseModel):
    """GET /v1/subscriptions, oldest first."""

    subscriptions: list[SubscriptionResponse]
