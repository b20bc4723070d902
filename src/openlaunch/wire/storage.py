"""What holds the disk (`/v1/storage`); ours, not the contract's."""

from pydantic import BaseModel, Field


class StorageKind(BaseModel):
    """Files of one kind. `free_bytes` of them hold nothing, and are used again before the disk is asked for more."""

    kind: str
    bytes: int
    count: int = Field(description="Number of files.")
    free_bytes: int = 0
    goes: str = Field(description="Which of these files are deleted, and when.")


class StorageResponse(BaseModel):
    """GET /v1/storage (admin): what lies in the data directory, by kind, and the room on its disk."""

    kinds: list[StorageKind]
    disk_free_bytes: int
    disk_bytes: int
