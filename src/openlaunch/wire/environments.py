"""Environments on the wire (`/v1/environments`); ours, not the contract's."""

from datetime import datetime

from pydantic import BaseModel, Field


class EnvironmentResponse(BaseModel):
    """An environment: what its workers import. `owner` is "" where it has no requirements, and is everybody's."""

    id: str
    owner: str
    python: str
    requirements: list[str]
    bytes: int
    last_used_at: datetime = Field(description="When an endpoint last began to use it.")
    used_by: list[str] = Field(
        description="Names of the endpoints that use it; `owner/name` of others' endpoints."
    )


class ListEnvironmentsResponse(BaseModel):
    """GET /v1/environments: those used last come first."""

    environments: list[EnvironmentResponse]


class PruneEnvironmentsResponse(BaseModel):
    """POST /v1/environments/prune: the ids of those that were removed."""

    removed: list[str]
