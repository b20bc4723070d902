"""Quotas of owners on the wire (`/v1/quotas`); ours, not the contract's."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from openlaunch.wire.keywords import QUOTA_HELP
from openlaunch.wire.quantities import LEAST_SIZE, parse_cores, parse_size

UNLIMITED, DEFAULT = "unlimited", "default"


def _read(parse: Callable[[str | float], float]) -> BeforeValidator:
    def read(value: object) -> object:
        if value in (None, UNLIMITED, DEFAULT):
            return value
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return plain(parse(value))
            except ValueError as error:
                raise ValueError(f"{error}, or {UNLIMITED} or {DEFAULT}") from None
        raise ValueError(f"a number, {UNLIMITED} or {DEFAULT} is needed")

    return BeforeValidator(read)


def _count(value: str | float) -> int:
    if not str(value).strip().isdecimal():
        raise ValueError(f"{value!r} is not a number such as 10, or 0 for none")
    return int(value)


def _size(value: str | float) -> int:
    size = parse_size(value)
    if 0 < size < LEAST_SIZE:
        raise ValueError(
            f"{value!r} stands for {size} bytes, less than 1Mi: give a unit, such as 8Gi or 500MB"
        )
    return size


def plain(amount: float) -> int | float:
    """Return a whole number as one."""
    return int(amount) if math.isfinite(amount) and amount == int(amount) else amount


_Amount = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0)] | Literal["unlimited", "default"] | None
Amount = Annotated[_Amount, _read(parse_cores)]
Count = Annotated[_Amount, _read(_count)]
Size = Annotated[_Amount, _read(_size)]


class SetQuotasRequest(BaseModel):
    """PUT /v1/quotas/{owner} (admin). Omitted quotas stay; "default" is the server's setting again."""

    endpoints: Count = Field(default=None, description=QUOTA_HELP["endpoints"])
    workers: Count = Field(default=None, description=QUOTA_HELP["workers"])
    cpus: Amount = Field(default=None, description=QUOTA_HELP["cpus"])
    memory: Size = Field(default=None, description=QUOTA_HELP["memory"])
    gpus: Count = Field(default=None, description=QUOTA_HELP["gpus"])
    queued_tasks: Count = Field(default=None, description=QUOTA_HELP["queued_tasks"])
    stored_bytes: Size = Field(default=None, description=QUOTA_HELP["stored_bytes"])
    tokens_per_minute: Count = Field(default=None, description=QUOTA_HELP["tokens_per_minute"])
    tokens_per_day: Count = Field(default=None, description=QUOTA_HELP["tokens_per_day"])

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("nothing to change: give one of " + ", ".join(QUOTAS))
        return self


QUOTAS = tuple(SetQuotasRequest.model_fields)
"""What there are quotas of."""


class QuotaAmounts(BaseModel):
    """An amount of each; null in what is allowed: unlimited."""

    endpoints: int | None = None
    workers: int | None = None
    cpus: float | None = None
    memory: int | None = None
    gpus: int | float | None = None
    queued_tasks: int | None = None
    stored_bytes: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


class OwnerQuotas(BaseModel):
    """What an owner uses, and what the owner may."""

    owner: str
    used: QuotaAmounts
    allowed: QuotaAmounts


class ListQuotasResponse(BaseModel):
    """GET /v1/quotas: the caller's; for admins, everybody's."""

    quotas: list[OwnerQuotas]
