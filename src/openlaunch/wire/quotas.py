"""Quotas of owners on the wire (`/v1/quotas`); ours, not the contract's."""

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from openlaunch.wire.quantities import LEAST_SIZE, parse_cores, parse_size

UNLIMITED, DEFAULT = "unlimited", "default"


def _read(parse: Callable[[str | float], float]) -> BeforeValidator:
    def read(value: object) -> object:
        if value in (None, UNLIMITED, DEFAULT):
            return value
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return plain(parse(value))
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

    endpoints: Count = Field(default=None, description="Number of endpoints.")
    workers: Count = Field(default=None, description="Sum of max_workers.")
    cpus: Amount = Field(default=None, description="Cores of all those workers.")
    memory: Size = Field(default=None, description="Memory of all those workers, in bytes, such as 64Gi.")
    gpus: Count = Field(default=None, description="GPUs of all those workers.")
    queued_tasks: Count = Field(default=None, description="Tasks that wait in the queues of all endpoints.")
    stored_bytes: Size = Field(default=None, description="Uploads: bundles, files and inputs, such as 100Gi.")
    tokens_per_minute: Count = Field(default=None, description="Tokens of language models a minute.")
    tokens_per_day: Count = Field(default=None, description="Tokens of language models a day, from 0:00 UTC.")

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
