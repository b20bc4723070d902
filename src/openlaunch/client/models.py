"""Bundles and endpoints as the client shows them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Optional, Protocol, TypeVar

from pydantic import BaseModel, Field, ValidationError

from openlaunch.client.effects import Flow, Request, asked
from openlaunch.errors import Unprocessable
from openlaunch.wire.bundles import Flavor, ModelBundleResponse
from openlaunch.wire.endpoint_settings import EndpointSettings
from openlaunch.wire.endpoints import (
    DeploymentState,
    EndpointStatus,
    EndpointType,
    ModelEndpointResponse,
    ResourceState,
)
from openlaunch.wire.keywords import KEYWORD_HELP
from openlaunch.wire.misfits import said
from openlaunch_worker.prefetch_urls import masked

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_PACKAGING = {"cloudpickle_artifact": "cloudpickle", "zip_artifact": "zip"}


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A model bundle: code and model, under a name and an id, which never change."""

    name: str
    id: str | None = None
    env_params: dict[str, str] | None = field(default=None, repr=False)
    location: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    packaging_type: str | None = field(default=None, repr=False)
    requirements: list[str] = field(default_factory=list)
    app_config: dict[str, Any] | None = field(default=None, repr=False)
    created_at: datetime | None = field(default=None, repr=False)
    schema_location: str | None = field(default=None, repr=False)
    flavor: Flavor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("name", self.name), ("id", self.id or "")):
            if not isinstance(value, str):
                raise TypeError(f"ModelBundle: {name} is {value!r:.100}: text is needed")

    @property
    def bundle_id(self) -> str | None:
        """The id."""
        return self.id

    @classmethod
    def of(cls, wire: ModelBundleResponse) -> "ModelBundle":
        flavor = wire.flavor
        framework = getattr(flavor, "framework", None)
        return cls(
            name=wire.name,
            id=wire.id,
            env_params=framework and framework.model_dump(),
            location=getattr(flavor, "location", None),
            metadata=wire.metadata,
            packaging_type=_PACKAGING.get(flavor.flavor),
            requirements=getattr(flavor, "requirements", []),
            app_config=getattr(flavor, "app_config", None),
            created_at=wire.created_at,
            schema_location=wire.schema_location,
            flavor=flavor,
        )


if TYPE_CHECKING:
    Later = Annotated[T, "None until the endpoint is looked up"]
else:
    Later = Optional


_UNKNOWN: Any = None


class ModelEndpoint(ModelEndpointResponse):
    """A model endpoint as the server last described it.

    One made by hand needs its name alone, or `owner/name` for a public one of another owner. It is looked up at its
    first use.
    """

    id: Later[str] = Field(default=_UNKNOWN)
    endpoint_type: Later[EndpointType] = Field(default=_UNKNOWN)
    destination: Later[str] = Field(default=_UNKNOWN)
    bundle_name: Later[str] = Field(default=_UNKNOWN)
    status: Later[EndpointStatus] = Field(default=_UNKNOWN)
    created_by: Later[str] = Field(default=_UNKNOWN)
    created_at: Later[datetime] = Field(default=_UNKNOWN)
    last_updated_at: Later[datetime] = Field(default=_UNKNOWN)

    changes: list[str] | None = Field(default=None, exclude=True, repr=False)
    """What `deploy` changed of an endpoint that existed; None where nothing was deployed, or the endpoint is new."""

    def __init__(self, name: str, **more: Any) -> None:
        try:
            super().__init__(name=name, **more)
        except ValidationError as error:
            raise TypeError(f"ModelEndpoint: {_described(error)}") from None

    def __repr__(self) -> str:
        kind, status = (value and value.value for value in (self.endpoint_type, self.status))
        return f"ModelEndpoint(name={self.name!r}, id={self.id!r}, type={kind!r}, status={status!r})"

    __str__ = __repr__


_SHOWN = (*DeploymentState.model_fields, *ResourceState.model_fields)
_NAMED = set(EndpointSettings.model_fields) - set(_SHOWN)
_COUNTS = ("available_workers", "unavailable_workers")


def changes_between(before: ModelEndpoint, after: ModelEndpoint) -> list[str]:
    """Describe the settings that differ, those that may hold anything by their names alone."""
    old, new = _settings(before), _settings(after)
    different = [name for name in new if old.get(name) != new[name]]
    return [name if name in _NAMED else f"{name}: {old.get(name)} → {new[name]}" for name in different]


def _settings(endpoint: ModelEndpoint) -> dict[str, Any]:
    states = [
        dict(state) for state in (endpoint.deployment_state, endpoint.resource_state) if state is not None
    ]
    named = {name: getattr(endpoint, name) for name in type(endpoint).model_fields if name in _NAMED}
    found = {
        name: value for state in (*states, named) for name, value in state.items() if name not in _COUNTS
    }
    if (share := found.pop("gpu_share", None)) is not None:
        found["gpus"] = share
    if found.get("concurrent_requests_per_worker") == found.get("per_worker"):
        del found["concurrent_requests_per_worker"]
    return found


_FREE_FORM = ("env", "labels", "record", "prefetch", "secrets")


def differences(
    endpoint: ModelEndpoint, creation: Mapping[str, Any], among: Iterable[str] = KEYWORD_HELP
) -> list[str]:
    """Describe those `among` the settings in which an endpoint differs from what a request to create it says."""
    now = {**endpoint.model_dump(include=set(KEYWORD_HELP)), **_settings(endpoint)}
    found = []
    for name in among:
        before, after = now.get(name) or None, creation.get(name) or None
        if name == "prefetch" and after:
            after = [masked(url) for url in after]
        if isinstance(before, dict) and isinstance(after, dict):
            before = {key: value for key, value in before.items() if key in after or name != "record"}
        if before == after or (name == "concurrent_requests_per_worker" and after is None):
            continue
        found.append(name if name in _FREE_FORM else f"{name}: {before} → {after}")
    return found


class HasModelEndpoint(Protocol):
    """An `Endpoint` of either client."""

    @property
    def model_endpoint(self) -> ModelEndpoint:
        """The endpoint as the server last described it."""


EndpointLike = ModelEndpoint | HasModelEndpoint | str
"""An endpoint, or its name."""


def checked(model: type[M], document: Mapping[str, Any]) -> dict[str, Any]:
    """Check a request's body with its model, and leave out what is None.

    Raises Unprocessable when a field does not fit: the same error as the server's own, before anything is sent.
    """
    try:
        return model.model_validate(document).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        errors = [{"loc": e["loc"], "msg": said(e), "type": e["type"]} for e in error.errors()]
        raise Unprocessable(_described(error), errors=errors) from None


def answer(model: type[M], request: Request) -> Flow[M]:
    """Send a request, with retries, and read its answer with a model; raises what `call` does."""
    return (yield from asked(request, model.model_validate_json))


def got(model: type[M], url: str) -> Flow[M]:
    """Send a GET request as `answer` does."""
    return answer(model, Request("GET", url, idempotent=True))


def _described(error: ValidationError) -> str:
    return "; ".join(_sentence(e["loc"], said(e), e.get("input")) for e in error.errors())


def _sentence(path: tuple[int | str, ...], message: str, value: object) -> str:
    name = ".".join(str(part) for part in path)
    if isinstance(value, str | int | float):
        return f"{name} is {value!r}: {message}"
    return f"{name}: {message}" if name else message


class PostInferenceHooks(StrEnum):
    """What may happen after a prediction, for `post_inference_hooks` of endpoints."""

    CALLBACK = "callback"
