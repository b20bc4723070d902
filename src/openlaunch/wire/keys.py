"""API keys on the wire (`/v1/keys`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, Field, model_validator

OWNER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
ALL_OWNERS = "*"
"""In place of an owner: every owner's, in lists that an admin asks for."""

MAX_LIMIT = 2**31 - 1
MAX_TOKENS = 2**53


class Role(StrEnum):
    """What a key may do.

    `predict` sends predictions, looks at endpoints, and waits for and cancels tasks; `user` does everything else too,
    on its owner's own things; `admin` also manages keys, reads the audit log, and does all of it for every owner.
    `metrics` reads `/metrics`, as admins may, and nothing else.
    """

    ADMIN = "admin"
    USER = "user"
    PREDICT = "predict"
    METRICS = "metrics"


Rate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MAX_LIMIT)]


Tokens = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


class KeyLimits(BaseModel):
    """A key's limits on predictions; those of one bulk count one by one. None and 0: there is no limit.

    Those on tokens are of language models. `burst` is how many predictions may come at once after a quiet time;
    without it, what comes in one second. A day begins at 0:00 UTC.
    """

    requests_per_second: Rate | None = None
    burst: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Tokens | None = None
    tokens_per_day: Tokens | None = None


class CreateKeyRequest(KeyLimits):
    """POST /v1/keys (admin). The owner is the user whose objects the key reads and writes."""

    owner: str = Field(pattern=OWNER_PATTERN)
    role: Role = Role.USER
    expires_at: AwareDatetime | None = None


class UpdateKeyRequest(KeyLimits):
    """PUT /v1/keys/{id} (admin). Omitted fields stay unchanged; 0 removes a limit."""

    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("nothing to change: give one of " + ", ".join(type(self).model_fields))
        return self


class KeySummary(KeyLimits):
    """A key without its secret; `prefix` is its first characters, to recognise it by."""

    id: str
    owner: str
    role: Role
    prefix: str
    created_at: datetime
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    tokens_today: int = 0
    """Tokens of models that it has used since 0:00 UTC."""


class CreateKeyResponse(KeySummary):
    """The answer to creating a key: the only one that shows the key."""

    api_key: str = Field(repr=False)


class ListKeysResponse(BaseModel):
    """GET /v1/keys (admin)."""

    keys: list[KeySummary]


class PageLinkResponse(BaseModel):
    """POST /page/links: the token of a link that signs in to the page once, with the key of the request."""

    link: str = Field(repr=False)


class WhoamiResponse(BaseModel):
    """GET /v1/whoami: the key that the request was sent with."""

    key_id: str
    owner: str
    role: Role
    expires_at: datetime | None = None
