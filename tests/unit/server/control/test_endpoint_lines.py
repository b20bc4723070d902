"""The lines of endpoints at `/metrics`: what parsers of both formats make of them, and how many there are."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from openlaunch.server.control.endpoint_lines import EndpointNow, lines
from openlaunch.server.metrics.counts import EndpointCounts

AWKWARD = 'a "model"\\ of\nmine, {x="1"} é'


def endpoint(name, *seconds):
    counts = EndpointCounts()
    for each in seconds:
        counts.of(1)._whole.observe(each)
    return EndpointNow(
        name=name,
        owner="ada",
        status="READY",
        counts=counts,
        waiting=1,
        running=2,
        queued=3,
        ready=4,
        starting=5,
        oldest=None,
    )


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_parsers_find_what_was_counted_whatever_an_endpoint_is_called(is_openmetrics):
    written = "\n".join(lines([endpoint(AWKWARD, 0.002, 3, 9999)], openmetrics=is_openmetrics))
    families = openmetrics(written + "\n# EOF\n") if is_openmetrics else text(written + "\n")
    samples = [sample for family in families for sample in family.samples]
    assert {(s.labels["endpoint"], s.labels["owner"]) for s in samples} == {(AWKWARD, "ada")}
    found = {(s.name, s.labels.get("le")): s.value for s in samples}
    duration = "openlaunch_prediction_duration_seconds"
    assert found[f"{duration}_bucket", "0.0025"] == 1
    assert found[f"{duration}_bucket", "1800.0"] == 2
    assert found[f"{duration}_bucket", "+Inf"] == found[f"{duration}_count", None] == 3
    assert found[f"{duration}_sum", None] == pytest.approx(10002.002)
    assert found["openlaunch_queue_tasks", None] == 3


def test_an_endpoint_that_does_nothing_costs_few_lines():
    one, two = (
        sum(1 for _ in lines([endpoint(str(n)) for n in range(count)], openmetrics=True)) for count in (1, 2)
    )
    assert two - one <= 30
