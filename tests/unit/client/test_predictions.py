import json
import pickle

import pytest

from openlaunch.client.operations import predictions
from openlaunch.client.predictions import MAX_RESUMES, Answer, EndpointRequest, StreamReader, parse_answer
from openlaunch.client.responses import EndpointResponse
from openlaunch.client.waiting import distinct_ids
from openlaunch.errors import PredictionFailed, StreamInterrupted, TaskCancelled
from openlaunch.wire.sse import END_EVENT
from openlaunch.wire.tasks import CANCELLED_STATUS_CODE


def test_a_request_has_args_or_a_url():
    assert EndpointRequest(args={"x": 1}).document() == {"args": {"x": 1}}
    assert EndpointRequest(url="http://h/f").document() == {"url": "http://h/f"}


def test_a_request_without_either_is_refused():
    with pytest.raises(ValueError, match="neither of url and args"):
        EndpointRequest()


def test_a_request_with_both_is_refused():
    with pytest.raises(ValueError, match="both of url and args"):
        EndpointRequest(url="http://h/f", args={})


def test_values_in_the_place_of_the_url_are_told_where_they_belong():
    with pytest.raises(TypeError, match=r"url is dict, a str is needed; values go by name: args=\{...\}"):
        EndpointRequest({"x": 1})


@pytest.mark.parametrize("run", [predictions.predict_sync, predictions.submit])
def test_what_is_no_request_is_told_what_one_is(run):
    with pytest.raises(TypeError, match="a request is dict, an EndpointRequest is needed"):
        next(run("end_1", {"x": 1}))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_timeout_that_is_not_finite_is_named(wrong):
    with pytest.raises(ValueError, match=f"timeout is {wrong}: a number of seconds is needed"):
        next(predictions.predict_sync("end_1", EndpointRequest(args={}), wrong))


def test_headers_that_are_no_dict_are_told_what_is_needed():
    with pytest.raises(TypeError, match="extra_headers is list, a dict of names and values is needed"):
        EndpointRequest(args={}, extra_headers=["a"])


def test_what_is_no_request_in_a_batch_is_told_what_one_is():
    with pytest.raises(TypeError, match="a request is dict, an EndpointRequest is needed"):
        distinct_ids([{"x": 1}])


def test_what_is_no_request_among_many_is_told_what_one_is():
    with pytest.raises(TypeError, match="a request is dict, an EndpointRequest is needed"):
        next(predictions.submit_many("end_1", [EndpointRequest(args={}), {"x": 1}]))


def test_ids_are_made_and_differ():
    assert EndpointRequest(args={}).request_id != EndpointRequest(args={}).request_id
    assert EndpointRequest(args={}, request_id="mine").request_id == "mine"


def test_the_payload_is_not_shown():
    assert "secret" not in repr(EndpointRequest(args={"x": "secret"}))


def test_a_priority_goes_into_the_body_and_a_key_into_the_headers():
    request = EndpointRequest(args={}, priority=5, idempotency_key="k", extra_headers={"X-Trace": "t"})
    assert request.document() == {"args": {}, "priority": 5}
    assert request.headers() == {"x-trace": "t", "idempotency-key": "k"}
    assert EndpointRequest(args={}, extra_headers={"Idempotency-Key": "l"}).headers() == {
        "idempotency-key": "l"
    }


def test_callback_auth_goes_along():
    request = EndpointRequest(
        args={},
        callback_url="http://h/c",
        callback_auth_kind="basic",
        callback_auth_username="u",
        callback_auth_password="p",
    )
    assert request.document()["callback_auth"] == {"kind": "basic", "username": "u", "password": "p"}


@pytest.mark.parametrize(
    "auth",
    [
        {"callback_auth_kind": "basic", "callback_auth_username": "u"},
        {"callback_auth_kind": "token"},
        {"callback_auth_username": "u", "callback_auth_password": "p"},
        {"callback_auth_kind": "mtls", "callback_auth_username": "u", "callback_auth_password": "p"},
    ],
)
def test_half_an_auth_is_refused(auth):
    with pytest.raises(ValueError, match="callback"):
        EndpointRequest(args={}, **auth)


def test_args_that_are_no_json_are_refused_with_a_hint():
    with pytest.raises(
        TypeError, match=r"can't be sent as JSON.*complex is not JSON serializable.*give JSON values"
    ):
        EndpointRequest(args={"x": 1j}).body()
    with pytest.raises(ValueError, match="the args hold NaN or Infinity, which JSON does not have: put None"):
        EndpointRequest(args={"x": float("nan")}).body()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1: "a", "1": "b"}, "1 and '1'"),
        ([{"deep": {True: 1, "true": 2}}], "True and 'true'"),
        ({None: 1, "null": b"bytes"}, "None and 'null'"),
    ],
)
def test_args_of_which_one_would_be_lost_are_refused(value, named):
    with pytest.raises(ValueError, match=f"a dict with the keys {named}, which are both"):
        EndpointRequest(args={"value": value}).body()
    assert EndpointRequest(args={"value": {1: "a", "2": "b", "true": 1}}).body()


def test_results_are_json_text_in_every_mode():
    assert parse_answer({"status": "SUCCESS", "result": {"result": "[1,2]"}}).result == "[1,2]"
    assert parse_answer({"status": "SUCCESS", "result": {"result": "a"}}, item=True).result == '"a"'
    assert parse_answer({"status": "SUCCESS", "result": {"result": None}}, item=True).result == "null"


def test_a_pickled_result_is_a_url():
    answer = parse_answer({"status": "SUCCESS", "result": {"result_url": "http://h/r"}})
    assert (answer.result_url, answer.result) == ("http://h/r", None)


TRACEBACK = """\
Traceback (most recent call last):
  File "model.py", line 3, in predict
    raise ValidationError
ValidationError: 1 validation error for Item
price
  Value error, price must be positive
    For further information visit https://example.org
"""
MESSAGE = (
    "1 validation error for Item\nprice\n  Value error, price must be positive\n    For further information"
)


def failed(**fields):
    document = {"status": "FAILURE", "result": None, "status_code": 500, **fields}
    with pytest.raises(PredictionFailed) as caught:
        parse_answer(document).raise_for_status()
    return caught.value


def test_a_failure_shows_type_message_and_frames():
    error = failed(traceback=TRACEBACK, error={"type": "ValidationError", "message": MESSAGE})
    first, *more = str(error).splitlines()
    assert first == (
        "the prediction ended as FAILURE: ValidationError: 1 validation error for Item price Value error, price must "
        "be positive For further information"
    )
    assert more == ["", *TRACEBACK.splitlines()]
    assert (error.traceback, error.status_code) == (TRACEBACK, 500)


def test_a_failure_without_type_and_message_shows_the_last_line():
    old = TRACEBACK.partition("ValidationError:")[0] + "ValueError: no"
    assert str(failed(traceback=old)).startswith(
        "the prediction ended as FAILURE: ValueError: no\n\nTraceback"
    )


def test_a_failure_that_is_no_exception_shows_its_whole_text_once():
    assert str(failed(traceback="the server answered 500:\n<html>")) == (
        "the prediction ended as FAILURE: the server answered 500: <html>"
    )


def test_of_a_long_traceback_the_beginning_and_the_end_are_shown():
    error = failed(traceback=TRACEBACK + "x" * 100_000 + "the end", error={"type": "E", "message": ""})
    assert len(str(error)) < 10_000
    assert "in predict" in str(error)
    assert str(error).endswith("the end")


def test_a_failure_can_be_pickled():
    error = failed(traceback=TRACEBACK, error={"type": "E", "message": "m"})
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.traceback, again.status_code) == (str(error), TRACEBACK, 500)


def test_a_cancelled_task_is_told_from_a_failure():
    with pytest.raises(TaskCancelled):
        Answer("FAILURE", status_code=CANCELLED_STATUS_CODE).raise_for_status()


def test_what_runs_still_has_not_succeeded():
    answer = Answer("STARTED")
    assert not answer.done
    with pytest.raises(PredictionFailed):
        answer.raise_for_status()


def item(value, status="SUCCESS"):
    return b"data: " + json.dumps({"status": status, "result": {"result": value}}).encode() + b"\n\n"


def read(*pieces):
    reader = StreamReader()
    found = [answer for piece in pieces for answer in reader.feed(piece)]
    reader.finish()
    return [answer.result for answer in found]


def test_a_stream_gives_its_items_up_to_the_end_event():
    assert read(item(1), item("b"), END_EVENT) == ["1", '"b"']


def test_pieces_may_be_cut_anywhere():
    data = item(1) + item(2) + END_EVENT
    assert read(*[data[i : i + 1] for i in range(len(data))]) == ["1", "2"]


def test_a_stream_without_its_end_was_interrupted():
    with pytest.raises(StreamInterrupted, match="cut after 1 items"):
        read(item(1))


def test_a_failure_is_an_end_too():
    assert read(item(1), item(None, "FAILURE")) == ["1", "null"]


def test_what_is_no_item_is_an_interruption():
    with pytest.raises(StreamInterrupted, match="has no item"):
        read(b"data: nonsense\n\n")


def with_id(number, data):
    return f"id: s-{number}\n".encode() + data


def test_a_stream_goes_on_after_the_last_whole_event():
    reader = StreamReader("s-0")
    assert reader.finish() == "s-0"
    found = list(reader.feed(with_id(1, item(1)) + with_id(2, item(2))[:20]))
    assert reader.finish() == "s-1"
    found += reader.feed(with_id(2, item(2)) + with_id(3, END_EVENT))
    assert reader.finish() is None
    assert [answer.result for answer in found] == ["1", "2"]


def test_a_stream_goes_on_only_so_often_without_a_further_item():
    reader = StreamReader("s-0")
    for _ in range(MAX_RESUMES):
        reader.finish()
    with pytest.raises(StreamInterrupted):
        reader.finish()


def test_an_item_lets_a_stream_go_on_as_often_again():
    reader = StreamReader("s-0")
    for number in range(1, 3 * MAX_RESUMES):
        list(reader.feed(with_id(number, item(number))))
        assert reader.finish() == f"s-{number}"


def test_a_failure_names_its_request():
    document = {"status": "FAILURE", "traceback": "ValueError: no", "status_code": 500, "request_id": "req_7"}
    response = EndpointResponse.of(None, parse_answer(document))
    assert response.request_id == "req_7"
    assert "req_7" in repr(response)
    assert "req_7" in str(response)
    with pytest.raises(PredictionFailed, match=r"FAILURE: ValueError: no \(request req_7\)") as failed:
        response.raise_for_status()
    assert failed.value.request_id == "req_7"


def test_a_failed_task_is_named_by_its_id_and_a_success_by_none():
    failed = parse_answer({"status": "FAILURE", "task_id": "task-7"})
    assert EndpointResponse.of(None, failed).request_id == "task-7"
    done = EndpointResponse.of(None, parse_answer({"status": "SUCCESS", "task_id": "task-7"}))
    assert done.request_id is None
    assert "request_id" not in repr(done)


def test_a_response_is_pickled_without_its_client():
    response = EndpointResponse.of(lambda: "no pickle of this", Answer("SUCCESS", None, "[1]", None, 200))
    assert pickle.loads(pickle.dumps(response)).value == [1]
    failed = EndpointResponse.of(lambda: None, Answer("FAILURE", None, None, "ValueError: x", 500))
    with pytest.raises(PredictionFailed, match="ValueError: x"):
        pickle.loads(pickle.dumps(failed)).raise_for_status()
