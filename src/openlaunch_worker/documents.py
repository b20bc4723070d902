"""The JSON documents that the server sends to workers and their nurseries: a class each, which both sides use."""

from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Final, Self, TypeVar, get_args, get_origin

from openlaunch_worker.batching import BatchRule

ADDRESS: Final = "OPENLAUNCH_WORKER_ADDRESS"
TOKEN: Final = "OPENLAUNCH_WORKER_TOKEN"  # noqa: S105 -- the variable's name
IMAGE: Final = "OPENLAUNCH_WORKER_IMAGE"
"""Environment variables that a worker is started with. IMAGE has a `containers.ImageOrder` where it runs an image."""

GPU_SHARE: Final = "OPENLAUNCH_GPU_SHARE"
"""The part of its GPUs' memory that a worker may use, from 0 to 1, where it has any."""

_MISSING: Final = object()
T = TypeVar("T")


class DocumentError(ValueError):
    """A document lacks a field or has a wrong value in it. The message names the field and never shows a value."""


class Document:
    """A dataclass that is sent as JSON: `from_json` reads what `to_json` returned."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read an object of JSON. Raise `DocumentError` where a field is missing or has a value of another type."""
        return _read(cls, document)


def _read(cls: type[T], document: object) -> T:
    if not isinstance(document, dict):
        raise DocumentError(f"{cls.__name__} is of type {type(document).__name__}: an object is needed")
    return cls(**{f.name: _value(cls, f, document.get(f.name, _MISSING)) for f in fields(cls)})  # type: ignore[arg-type]


def _value(cls: type, field: Field[Any], value: Any) -> Any:
    kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    for each in kinds:
        kind = get_origin(each) or each
        if is_dataclass(kind) and type(value) is dict:
            return _read(kind, value)  # type: ignore[arg-type]
        if kind is tuple and type(value) is list:
            item = get_args(each)[0]
            return tuple(_read(item, one) if is_dataclass(item) else one for one in value)  # type: ignore[arg-type]
        if type(value) is kind or (kind is float and type(value) is int):
            return value
    found = "missing" if value is _MISSING else f"of type {type(value).__name__}"
    needed = getattr(field.type, "__name__", field.type)
    raise DocumentError(f"the field {field.name!r} of {cls.__name__} is {found}: {needed} is needed")


@dataclass(frozen=True, slots=True)
class Limits(Document):
    """What the server allows. Sizes are in bytes, times in seconds.

    `per_worker` is the number of requests that run at a time. `max_url_bytes`, `url_timeout` and `allow_private` are
    for the input that a worker fetches from a URL. `batch` is None where each request runs in a call of its own.
    `request_schema` is a document with the JSON schema of `args` at its root, where that has defaults. A bundle's
    health_fn is called every `health_interval`, and may take `health_timeout`; its shutdown_fn `shutdown_timeout`.
    """

    per_worker: int
    max_result_bytes: int
    max_url_bytes: int
    url_timeout: float
    allow_private: bool
    batch: BatchRule | None = None
    request_schema: dict[str, Any] | None = field(default=None, repr=False)
    health_interval: float = 10.0
    health_timeout: float = 10.0
    shutdown_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Start(Document):
    """START, the server's first frame: the bundle's flavour as on the wire, and whether the endpoint streams.

    `env` has the variables that a bundle of functions sees.
    """

    bundle: dict[str, Any] = field(repr=False)
    limits: Limits
    streaming: bool = False
    env: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class About(Document):
    """CONTEXT, what a predict function may know of its request: the id, whose it is, and its HTTP headers.

    `is_heard`: its progress and partial values have somebody who may read them.
    """

    request_id: str = ""
    caller: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    is_heard: bool = False


@dataclass(frozen=True, slots=True)
class View(Document):
    """What a sandbox or a worker sees of the file system (`openlaunch_worker.file_view`).

    `folder` is its own, with `tmp` and `home` in it, which lie over the shared temporary folders, over those that
    `temporary` names, and over `homes`. `hidden` paths are empty. Of what lies below these, `readable` and `writable`
    paths are seen.
    """

    folder: str
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SandboxOrder(Document):
    """A command to start in a sandbox (`openlaunch_worker.sandbox`), in the working directory `cwd`.

    Nothing can be written to but what the view names. `user` is who root becomes, 0 where this is not root.
    `processes` bounds their number; 0 sets no bound. With `channel`, what is standard input moves to descriptor 3.
    `final`: the command makes no namespaces of its own. With `required`, a step that fails is refused.
    """

    command: tuple[str, ...]
    cwd: str
    view: View
    user: int = 0
    processes: int = 0
    channel: bool = False
    final: bool = True
    required: bool = False


@dataclass(frozen=True, slots=True)
class IsolationOrder(Document):
    """How a worker is isolated from others of its nursery (`openlaunch_worker.isolation`).

    `memory` bounds the bytes of its shared memory, and `processes` the number of its processes; 0 sets no bound. With
    `required`, a step that fails ends the worker.
    """

    view: View
    memory: int = 0
    processes: int = 0
    required: bool = False


@dataclass(frozen=True, slots=True)
class ForkOrder(Document):
    """What a nursery is asked for: a fork with this environment, in this folder. Its log's descriptor comes with it.

    Without an environment, and without a log, it is a spare, which waits for its `UseOrder`. `isolation` is None
    where the worker is not isolated. `memory` bounds the bytes of its own memory in any case; 0 sets no bound. `id`
    names the worker in the nursery's reports.
    """

    id: str
    env: dict[str, str] | None = field(repr=False)
    folder: str
    isolation: IsolationOrder | None = None
    memory: int = 0


@dataclass(frozen=True, slots=True)
class UseOrder(Document):
    """What a nursery is asked for: that a spare works, with this environment. Its log's descriptor comes with it."""

    id: str
    env: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignalOrder(Document):
    """What a nursery is asked for: a signal to this worker. SIGKILL ends all of its processes."""

    id: str
    signal: int
