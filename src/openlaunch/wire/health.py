"""Whether the server can serve (`/readyz`)."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel


class CheckStatus(StrEnum):
    """WARNING: the server serves, and needs attention. FAILED: it can't serve."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(BaseModel):
    """One check; `detail` says what is wrong, and `since` when a look first found it so."""

    name: str
    status: CheckStatus = CheckStatus.OK
    detail: str | None = None
    since: datetime | None = None


class ReadinessResponse(BaseModel):
    """GET /readyz: 200, or 503 when a check has FAILED; `status` is the worst of the checks."""

    status: CheckStatus
    checks: list[Check]
