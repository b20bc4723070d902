"""The JSON documents that the server sends to workers and their nurseries: a class each, which both sides use."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from openlaunch_worker.batching import BatchRule

ADDRESS: Final = "OPENLAUNCH_WORKER_ADDRESS"
TOKEN: Final = "OPENLAUNCH_WORKER_TOKEN"  # noqa: S105 -- the variable's name
IMAGE: Final = "OPENLAUNCH_WORKER_IMAGE"
"""Environment variables that a worker is started with. IMAGE has a `containers.ImageOrder` where it runs an image."""

_MISSING: Final = object()


class DocumentError(ValueError):
    """A document lacks a field or has a wrong value in it. The message names the field and never shows a value."""


class Fields:
    """Reads the fields of a document of JSON."""

    def __init__(self, document: object, name: str) -> None:
        if not isinstance(document, dict):
            raise DocumentError(f"{name} is of type {type(document).__name__}: an object is needed")
        self._document: dict[str, Any] = document
        self._name = name

    def get(self, field: str, *kinds: type | None) -> Any:
        """Return a field's value.

        Raises:
            DocumentError: the field is missing, or its value is of none of these types (None: null).

        """
        value = self._document.get(field, _MISSING)
        kind = None if value is None else type(value)
        if kind in kinds or (kind is int and float in kinds):
            return value
        found = "missing" if value is _MISSING else "null" if kind is None else f"of type {kind.__name__}"
        needed = " or ".join("null" if each is None else each.__name__ for each in kinds)
        raise DocumentError(f"the field {field!r} of {self._name} is {found}: {needed} is needed")


class Document:
    """A dataclass whose `to_json` its `from_json` reads."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document as an object of JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass


@dataclass(frozen=True, slots=True)
class Limits(Document):
    """What the server allows. Sizes are in bytes, times in seconds.

    `per_worker` is the number of requests that run at a time. `max_url_bytes`, `url_timeout` and `allow_private` are
    for the input that a worker fetches from a URL. `batch` is None where each request runs in a call of its own.
    """

    per_worker: int
    max_result_bytes: int
    max_url_bytes: int
    url_timeout: float
    allow_private: bool
    batch: BatchRule | None = None

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read `to_json`. Raise `DocumentError` where a field is missing or wrong."""
        get = Fields(document, "limits").get
        batch = get("batch", dict, None)
        return cls(
            get("per_worker", int),
            get("max_result_bytes", int),
            get("max_url_bytes", int),
            float(get("url_timeout", float)),
            get("allow_private", bool),
            None if batch is None else _batch_rule(batch),
        )


def _batch_rule(document: object) -> BatchRule:
    get = Fields(document, "batch").get
    return BatchRule(get("max_size", int), float(get("max_wait", float)))


@dataclass(frozen=True, slots=True)
class Start(Document):
    """START: the first that the server says to a worker.

    `bundle` is the bundle's flavour as on the wire (`openlaunch.wire.bundles`), `streaming` whether the endpoint's
    type is that.
    """

    bundle: dict[str, Any] = field(repr=False)
    limits: Limits
    streaming: bool = False

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read `to_json`. Raise `DocumentError` where a field is missing or wrong."""
        get = Fields(document, "START").get
        return cls(get("bundle", dict), Limits.from_json(get("limits", dict)), get("streaming", bool))


@dataclass(frozen=True, slots=True)
class IsolationOrder(Document):
    """How a fork isolates itself (`openlaunch_worker.isolation`).

    `hide` is the server's data directory, and `keep` the folders below it that the worker still sees. `memory` bounds
    the bytes of the worker's own memory, and `processes` the number of its processes where the server does not run as
    root; 0 sets no bound. With `required`, a step that fails ends the worker.
    """

    hide: str
    keep: tuple[str, ...] = ()
    memory: int = 0
    processes: int = 0
    required: bool = False

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read `to_json`. Raise `DocumentError` where a field is missing or wrong."""
        get = Fields(document, "isolation").get
        return cls(
            get("hide", str),
            tuple(get("keep", list)),
            get("memory", int),
            get("processes", int),
            get("required", bool),
        )


@dataclass(frozen=True, slots=True)
class ForkOrder(Document):
    """What a nursery is asked for: a fork with this environment, in this folder, that appends to this log.

    `isolation` is None where the worker is not isolated. `id` names the worker in the nursery's reports.
    """

    id: str
    env: dict[str, str] = field(repr=False)
    folder: str
    log: str
    isolation: IsolationOrder | None = None

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read `to_json`. Raise `DocumentError` where a field is missing or wrong."""
        get = Fields(document, "the order").get
        isolation = get("isolation", dict, None)
        return cls(
            get("id", str),
            get("env", dict),
            get("folder", str),
            get("log", str),
            None if isolation is None else IsolationOrder.from_json(isolation),
        )
