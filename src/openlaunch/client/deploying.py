"""The type of the clients' `deploy`: type checkers and editors know what it takes, and which endpoint it gives."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Unpack, overload

from pydantic import BaseModel

from openlaunch.client.operations.endpoints import Settings, StatusCallback

Sync = TypeVar("Sync", covariant=True)
Streaming = TypeVar("Streaming", covariant=True)
Async = TypeVar("Async", covariant=True)
Any_ = TypeVar("Any_", covariant=True)

Items = Iterator[Any] | AsyncIterator[Any]


class DeployKeywords(Settings, total=False):
    """What `deploy` takes beside the function, the name and the type; the operation describes it."""

    load_model_fn: Callable[..., Any] | None
    health_fn: Callable[..., Any] | None
    shutdown_fn: Callable[..., Any] | None
    requirements: list[str] | None
    wait: bool
    timeout: float
    on_status: StatusCallback | None
    show_progress: bool | None
    request_schema: type[BaseModel] | None
    response_schema: type[BaseModel] | None
    check_types: bool
    app_config: dict[str, Any] | None
    code_dir: str | Path | None
    include: list[str] | None
    exclude: list[str] | None
    reset: bool


class Deploy(Protocol[Sync, Streaming, Async, Any_]):
    """Serves a function; what the four types are tells the blocking client from the awaitable one."""

    @overload
    def __call__(
        self,
        fn: Callable[..., Items],
        *,
        name: str,
        endpoint_type: None = None,
        **keywords: Unpack[DeployKeywords],
    ) -> Streaming: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        endpoint_type: Literal["sync"] | None = None,
        **keywords: Unpack[DeployKeywords],
    ) -> Sync: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        endpoint_type: Literal["async"],
        **keywords: Unpack[DeployKeywords],
    ) -> Async: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        endpoint_type: Literal["streaming"],
        **keywords: Unpack[DeployKeywords],
    ) -> Streaming: ...
    @overload
    def __call__(
        self,
        fn: Callable[..., Any],
        *,
        name: str,
        endpoint_type: str | None,
        **keywords: Unpack[DeployKeywords],
    ) -> Any_: ...
