"""Numbers of endpoints over time (`/v1/metrics`, `/v1/model-endpoints/{id}/metrics`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from openlaunch.wire.events import Trouble


class MetricsRange(StrEnum):
    """The last hour by 5 seconds, the last day by minutes, or the last two weeks by 15 minutes."""

    HOUR = "1h"
    DAY = "24h"
    TWO_WEEKS = "14d"


class Times(BaseModel):
    """How many times were measured, and their mean and quantiles in seconds, as far as buckets tell; null of none."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p99: float | None = None


class Batches(BaseModel):
    """How many batches have run, and how many predictions one had on average; null of none."""

    count: int
    mean_size: float | None = None


class EndpointTotals(BaseModel):
    """What the server has counted of an endpoint since it started.

    `ended` has the predictions that ended in each way, and `errors` those that ended by an error of the server's, by
    its code. `times` has those of predictions (`waited` for a slot, `ran` in a worker, `whole`), of streams
    (`first_item`, and `gaps` between what came together), and of cold starts (`build` of the environment, `process`
    until the worker's process has connected, `load` of the bundle). `submitted`, `retries` and `dead_letters` are of
    tasks. `tokens` are of language models: `input`, those of them that were `cached`, and `output`. `batches` are
    those of dynamic batching. `events` has what happened to the endpoint, by kind, and `worker_ends` the workers that
    have ended, by why.
    """

    ended: dict[str, int]
    errors: dict[str, int]
    times: dict[str, Times]
    request_bytes: int
    response_bytes: int
    resumes: int
    tokens: dict[str, int]
    submitted: int
    retries: int
    dead_letters: int
    batches: Batches
    events: dict[str, int]
    worker_ends: dict[str, int]


class Points(BaseModel):
    """Numbers of an endpoint over time.

    Each list has a value for each time of `at`, which are seconds since 1970. Of the `step_seconds` before that time
    they tell how many predictions ended in each way (`ok`, `model_error`, `4xx`, `429`, `5xx`, `cancelled`,
    `deadline`), and in seconds the times of predictions (`p50`, `p99`), of their waits for a slot (`wait_p99`), and
    in their workers (`run_p50`, `run_p99`), null where none has ended. `waiting`, `running` and `workers` are what
    there was at that time. Where nothing has changed since the point before, there is none.
    """

    range: MetricsRange
    step_seconds: int
    at: list[float]
    series: dict[str, list[float | None]]


class EndpointMetricsResponse(Points):
    """GET /v1/model-endpoints/{id}/metrics, and what the server has counted of the endpoint since it started."""

    since_start: EndpointTotals


class EndpointSummary(BaseModel):
    """An endpoint's last minute.

    `rate` and `failure_rate` are the predictions a second that ended, and those that failed. One fails by an
    error of the model or of the server, or by a deadline. `p50` and `p99` are their times in seconds, and `wait_p99`
    is that of their waits for a slot, null where none has ended. `oldest_task_at` is when the oldest task that waits
    was submitted, as it was up to 15 s ago. `sparkline` has the predictions of each of the last 60 minutes.
    """

    id: str
    name: str
    owner: str
    endpoint_type: str
    status: str
    status_reason: str | None = None
    rate: float
    failure_rate: float
    p50: float | None = None
    p99: float | None = None
    wait_p99: float | None = None
    waiting: int
    oldest_task_at: datetime | None = None
    running: int
    workers: int
    troubles: list[Trouble] = []
    sparkline: list[int]


class MetricsSummaryResponse(BaseModel):
    """GET /v1/metrics: the caller's endpoints, those with failures and with trouble first."""

    endpoints: list[EndpointSummary]
