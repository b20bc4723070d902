"""The lines of endpoints at `/metrics`: what parsers of both formats make of them, and how many there are."""

from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

from openlaunch.server.control.endpoint_lines import EndpointNow, lines
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.server.metrics.models import MAX_ERRORS

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


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_models_have_the_names_and_buckets_of_the_conventions_for_generative_ai(is_openmetrics):
    model = endpoint(AWKWARD)
    chat, later = (model.counts.of(generation).model("chat") for generation in (1, 2))
    chat.answered(2.02, 10, 101, 0.02)
    chat.answered(0.5, 5000, 1, None)
    chat.failed("503", 7)
    later.answered(0.1, 0, 0, None)
    written = "\n".join(lines([model], openmetrics=is_openmetrics))
    families = openmetrics(written + "\n# EOF\n") if is_openmetrics else text(written + "\n")
    samples = [s for family in families for s in family.samples if s.name.startswith("gen_ai_")]
    assert {s.labels["gen_ai_request_model"] for s in samples} == {AWKWARD}
    assert {s.labels["gen_ai_operation_name"] for s in samples} == {"chat"}

    def value(name, **labels):
        [found] = (
            s.value for s in samples if s.name == f"gen_ai_{name}" and labels.items() <= s.labels.items()
        )
        return found

    assert value("server_time_to_first_token_seconds_bucket", le="0.02") == 1
    assert value("server_time_per_output_token_seconds_sum") == pytest.approx(0.02)
    assert value("server_request_duration_seconds_bucket", le="81.92", error_type="503") == 1
    ended = [s for s in samples if s.name == "gen_ai_server_request_duration_seconds_count"]
    assert sorted((s.labels.get("error_type", ""), s.value) for s in ended) == [("", 3), ("503", 1)]
    assert value("client_token_usage_bucket", le="16.0", gen_ai_token_type="input") == 1
    assert value("client_token_usage_sum", gen_ai_token_type="output") == 102


def test_types_of_errors_of_models_are_bounded():
    chat = EndpointCounts().of(1).model("chat")
    for status in range(1000):
        chat.failed(str(status), 1)
    assert len(chat.durations) <= MAX_ERRORS + 1
    assert sum(chat.durations["_OTHER"].counts) == 1000 - MAX_ERRORS
