"""API keys on the wire (`/v1/keys`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

OWNER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"


class Role(StrEnum):
    """What a key may do: `admin` also manages keys; `user` everything else, on its owner's own things."""

    ADMIN = "admin"
    USER = "user"


class CreateKeyRequest(BaseModel):
    """POST /v1/keys (admin). The owner is the user whose things the key reads and writes."""

    owner: str = Field(pattern=OWNER_PATTERN)
    role: Role = Role.USER


class KeySummary(BaseModel):
    """A key without its secret; `prefix` is its first characters, to recognise it by."""

    id: str
    owner: str
    role: Role
    prefix: str
    created_at: datetime
    revoked_at: datetime | None = None


class CreateKeyResponse(KeySummary):
    """The one time that the key itself is shown."""

    api_key: str = Field(repr=False)


class ListKeysResponse(BaseModel):
    """GET /v1/keys (admin)."""

    keys: list[KeySummary]
