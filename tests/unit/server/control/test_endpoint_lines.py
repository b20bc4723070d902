"""The lines of endpoints at `/metrics`: what parsers of both formats make of them, and how many there are."""

from dataclasses import replace

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
    assert two - one <= 31


def test_buckets_name_a_trace_where_the_format_has_room_for_it():
    traced = endpoint("traced", 0.002, 3)
    traced.counts.of(1).exemplify(0xABC, 0.002)
    written = "\n".join(lines([traced], openmetrics=True))
    samples = [s for family in openmetrics(written + "\n# EOF\n") for s in family.samples if s.exemplar]
    assert [(s.labels["le"], s.exemplar.labels, s.exemplar.value) for s in samples] == [
        ("0.0025", {"trace_id": f"{0xABC:032x}"}, 0.002)
    ]
    assert " # {" not in "\n".join(lines([traced], openmetrics=False))


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_generations_are_counted_apart_while_there_are_several(is_openmetrics):
    one, two = EndpointCounts().of(1), EndpointCounts().of(2)
    two.dead()
    canary = replace(endpoint("canary"), generations={1: one, 2: two})
    written = "\n".join(lines([canary, endpoint("other")], openmetrics=is_openmetrics))
    families = openmetrics(written + "\n# EOF\n") if is_openmetrics else text(written + "\n")
    found = {
        (s.labels["endpoint"], s.labels["generation"], s.labels["outcome"]): s.value
        for family in families
        for s in family.samples
        if s.name == "openlaunch_generation_predictions_total"
    }
    assert {key[:2] for key in found} == {("canary", "1"), ("canary", "2")}
    assert (found["canary", "1", "5xx"], found["canary", "2", "5xx"]) == (0, 1)
