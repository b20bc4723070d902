"""What a server asks an agent: the methods of `Engine` that are calls, with their arguments and answers as JSON."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import Field, TypeAdapter

from openlaunch.engines.base import ContainerError, EngineError, NoRoom, Refused
from openlaunch.engines.documents import (
    BuildOrder,
    Capacity,
    ContainerState,
    EnvironmentInfo,
    JobSpec,
    KeptWorker,
    LogLine,
    LogPart,
    Resources,
    SharedWorker,
    Standing,
    WorkerExit,
    WorkerSpec,
)

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Stop:
    """Which worker to stop, and how many seconds it has."""

    worker_id: str
    grace: float


@dataclass(frozen=True, slots=True)
class Adopt:
    """Which worker of an earlier server to use, and the token by which it is known from now on."""

    worker_id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prune:
    """Which environments to keep, and whose to remove."""

    used: tuple[str, ...]
    owner: str | None


@dataclass(frozen=True, slots=True)
class Note:
    """Lines of the server's own for a worker's log."""

    endpoint_id: str
    worker_id: str
    text: str


@dataclass(frozen=True, slots=True)
class LogRead:
    """Which part of an endpoint's logs to read."""

    endpoint_id: str
    part: LogPart


@dataclass(frozen=True, slots=True)
class Follow:
    """Which logs to follow, from which part on, under a name that the server gives."""

    name: str
    endpoint_id: str
    part: LogPart


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker's process that has ended."""

    worker_id: str
    exit: WorkerExit
    last_lines: str
    """Beside the exit, whose own field of that name is not compared."""


@dataclass(frozen=True, slots=True)
class WorkerNews:
    """What the leader should know of a worker: what a server says that uses it, or the agent.

    `worn`: it is to be replaced. `stuck`: something in it does not stop. `broke`: it has broken the protocol.
    `unwanted`: it drains, and nobody wants what still runs there.
    """

    worker_id: str
    kind: Literal["worn", "stuck", "broke", "unwanted"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BuildNews:
    """What a build says: that it has its turn, a line of its log, or what it does now."""

    build_id: str
    kind: Literal["started", "said", "does"]
    line: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """For which client a server wants another one, by that client's address, and its name; "": the leader.

    Where a server of that name is not connected, the one that has taken up the `work` of this name is meant. "other"
    is any but the one that asks.
    """

    client: str
    server: str = ""
    work: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """Under which name others may know a request that is about to be sent, by its id, and what is kept of it.

    An answer that its server has had is kept for `ended_seconds`; 0: not at all. Without a server the request runs on
    for `left_seconds`.
    """

    number: int
    name: Annotated[str, Field(max_length=200)]
    max_bytes: int
    ended_seconds: float
    left_seconds: float


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A request of a server that is gone, as another one takes it up: what has come of it follows.

    Of a stream, `held` bytes of chunks follow, `dropped` events before them do not, and the worker has no credit for
    the last `ahead` bytes.
    """

    name: str
    worker_id: str
    generation: int
    number: int
    held: int
    dropped: int
    ahead: int


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job, and what it is to have of the node, or has: `held` is in the words of the node's engine."""

    job_id: str
    resources: Resources
    held: str = ""


@dataclass(frozen=True, slots=True)
class JobStart:
    """Which container to run, with what its job holds."""

    job: JobSpec
    held: str


@dataclass(frozen=True, slots=True)
class JobLines:
    """How many of the last lines of a job to read."""

    job_id: str
    lines: int


class Call(Generic[A, R]):
    """One kind of call: its name, how its argument and its answer are written, and how long it may take."""

    def __init__(self, name: str, argument: Any, answer: Any, seconds: float | None = 60.0) -> None:
        self.name = name
        self.seconds = seconds
        self._argument: TypeAdapter[A] = TypeAdapter(argument)
        self._answer: TypeAdapter[R] = TypeAdapter(answer)

    def dump(self, argument: A) -> Any:
        return self._argument.dump_python(argument, mode="json")

    def argument(self, document: Any) -> A:
        """Read an argument; raises ValueError where it does not fit."""
        return self._argument.validate_python(document)

    def dump_answer(self, answer: R) -> Any:
        return self._answer.dump_python(answer, mode="json")

    def answer(self, document: Any) -> R:
        """Read an answer; raises ValueError where it does not fit."""
        return self._answer.validate_python(document)


LEAD: Final[Call[int, list[KeptWorker]]] = Call("lead", int, list[KeptWorker])
"""Begins to give orders under an epoch; one that is older than the node has seen is refused."""
LEAVE: Final[Call[None, None]] = Call("leave", None, None)
"""Gives no more orders. The workers stay, for the next leader to adopt, and serve."""
REACH: Final[Call[Reach, int]] = Call("reach", Reach, int, 5.0)
"""Opens a channel to another server, and returns its number."""
REPORT: Final[Call[WorkerNews, None]] = Call("report", WorkerNews, None)
ADOPT: Final[Call[Adopt, None]] = Call("adopt", Adopt, None)
KEEP: Final[Call[Keep, None]] = Call("keep", Keep, None)
LEFT: Final[Call[list[str], None]] = Call("left", list[str], None)
"""The names of requests whose server is gone."""
TAKE_UP: Final[Call[str, None]] = Call("take_up", str, None, 5.0)
"""Takes up the request of this name, over a channel that is open, and has what has come of it, before the answer."""
TAKEN_UP: Final[Call[TakenUp, None]] = Call("taken_up", TakenUp, None)
DRAIN: Final[Call[bool, None]] = Call("drain", bool, None)
"""Has the node get no further workers, or be used again; it remembers that."""
PREPARE: Final[Call[BuildOrder, str]] = Call("prepare", BuildOrder, str, None)
ENVIRONMENTS: Final[Call[None, list[EnvironmentInfo]]] = Call("environments", None, list[EnvironmentInfo])
PRUNE: Final[Call[Prune, list[str]]] = Call("prune", Prune, list[str])
START: Final[Call[WorkerSpec, None]] = Call("start", WorkerSpec, None)
STOP: Final[Call[Stop, None]] = Call("stop", Stop, None, None)
NOTE: Final[Call[Note, None]] = Call("note", Note, None)
READ_LOGS: Final[Call[LogRead, list[LogLine]]] = Call("read_logs", LogRead, list[LogLine])
FOLLOW: Final[Call[Follow, list[LogLine]]] = Call("follow", Follow, list[LogLine])
POLL: Final[Call[str, list[LogLine]]] = Call("poll", str, list[LogLine])
REMOVE_LOGS: Final[Call[str, None]] = Call("remove_logs", str, None)

HOLD_JOB: Final[Call[HeldJob, str]] = Call("hold_job", HeldJob, str)
KEEP_JOBS: Final[Call[list[HeldJob], None]] = Call("keep_jobs", list[HeldJob], None, 150.0)
"""Has these jobs hold what they have. Whatever else the node has of the server's is removed."""
START_JOB: Final[Call[JobStart, None]] = Call("start_job", JobStart, None, None)
"""Fetches the image and starts the container, unless it is there."""
JOB_STATE: Final[Call[str, ContainerState | None]] = Call("job_state", str, ContainerState | None, 150.0)
WAIT_FOR_JOB: Final[Call[str, None]] = Call("wait_for_job", str, None, None)
JOB_LINES: Final[Call[JobLines, list[str]]] = Call("job_lines", JobLines, list[str], 150.0)
STOP_JOB: Final[Call[str, None]] = Call("stop_job", str, None, 150.0)
REMOVE_JOBS: Final[Call[list[str], None]] = Call("remove_jobs", list[str], None, 150.0)
RELEASE_JOB: Final[Call[str, None]] = Call("release_job", str, None)

ENDED: Final[Call[Ended, None]] = Call("ended", Ended, None)
BUILD: Final[Call[BuildNews, None]] = Call("build", BuildNews, None)
NEWS: Final[Call[WorkerNews, None]] = Call("news", WorkerNews, None)
STANDING: Final[Call[Standing, None]] = Call("standing", Standing, None)
SHARED: Final[Call[SharedWorker, None]] = Call("shared", SharedWorker, None)
CAPACITY: Final[Call[Capacity, None]] = Call("capacity", Capacity, None)

FAILURES: Final[dict[str, type[Exception]]] = {
    "NoRoom": NoRoom,
    "Refused": Refused,
    "ContainerError": ContainerError,
    "EngineError": EngineError,
    "OSError": OSError,
}
"""How a call may end, by the name that is sent: the first that fits."""


def name_of(error: Exception) -> str:
    """Return the name by which a failure is sent; an `EngineError` where it has none."""
    return next((name for name, kind in FAILURES.items() if isinstance(error, kind)), "EngineError")
