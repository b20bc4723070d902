"""Secrets of owners on the wire (`/v1/secrets`); ours, not the contract's. No answer has a value in it."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from openlaunch.wire.variables import check_value, reserved

MAX_SECRET_BYTES = 32 * 1024
MAX_SECRETS = 200
"""Limit on the secrets of one owner."""
NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"


def variable_of(name: str) -> str:
    """Return the environment variable in which workers find the secret: of `hf-token`, `HF_TOKEN`."""
    return name.upper().replace("-", "_")


def _check_name(name: str) -> str:
    if reserved(variable_of(name)):
        raise ValueError(
            f"workers would find it as {variable_of(name)}, which the server sets for each: give it another name"
        )
    return name


def _check_names(names: list[str]) -> list[str]:
    variables = [variable_of(name) for name in names]
    if twice := sorted({each for each in variables if variables.count(each) > 1}):
        raise ValueError(f"several of them would be the variable {twice[0]}: name each once")
    return names


def _check_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    check_value("the secret", text)
    if not 1 <= len(text.encode()) <= MAX_SECRET_BYTES:
        raise ValueError(f"it has {len(text.encode())} bytes, 1 to {MAX_SECRET_BYTES} are allowed")
    return value


SecretName = Annotated[str, Field(pattern=NAME_PATTERN), AfterValidator(_check_name)]
SecretNames = Annotated[list[SecretName], Field(max_length=50), AfterValidator(_check_names)]


class SetSecretRequest(BaseModel):
    """PUT /v1/secrets/{name}."""

    value: Annotated[SecretStr, AfterValidator(_check_secret)]


class SecretSummary(BaseModel):
    """A secret without its value: the variable in which workers find it, and the endpoints that use it."""

    name: str
    owner: str = ""
    variable: str
    updated_at: datetime
    endpoints: list[str]


class ListSecretsResponse(BaseModel):
    """GET /v1/secrets."""

    secrets: list[SecretSummary]


class RotateSecretsResponse(BaseModel):
    """POST /v1/secrets-rotation: how many secrets are encrypted with the new key."""

    secrets: int
