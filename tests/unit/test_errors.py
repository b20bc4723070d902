"""The tree of errors: what programs may rely on."""

import inspect

import pytest

from openlaunch import errors
from openlaunch.errors import APIError, BadRequest, NotFound, ServerError, TooManyRequests, Unprocessable

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.OpenlaunchError)]
API = [c for c in ALL if issubclass(c, APIError) and c is not APIError]


@pytest.mark.parametrize("cls", ALL)
def test_each_class_is_in_the_drawing_and_says_what_it_means(cls):
    assert cls.__name__ in (errors.__doc__ or "")
    assert cls.__doc__


@pytest.mark.parametrize("cls", API)
def test_a_status_leads_back_to_its_class(cls):
    assert errors.class_for_status(cls.status) is cls


@pytest.mark.parametrize("cls", API)
def test_the_drawing_names_the_right_status(cls):
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if f" {cls.__name__} " in line]
    assert str(cls.status) in line


def test_statuses_and_codes_are_unique():
    assert len({c.status for c in API}) == len(API)
    assert len({c.default_code for c in API}) == len(API)


@pytest.mark.parametrize(
    ("status", "cls"), [(418, BadRequest), (451, BadRequest), (507, ServerError), (599, ServerError)]
)
def test_other_statuses_get_the_class_of_their_kind(status, cls):
    assert errors.class_for_status(status) is cls


def test_only_what_passes_by_itself_is_worth_a_further_try():
    assert {c.status for c in API if c.retryable} == {429, 503}


def test_the_text_names_the_request():
    assert str(NotFound("no endpoint 'x'")) == "no endpoint 'x'"
    assert str(NotFound("no endpoint 'x'", request_id="req_1")) == "no endpoint 'x' (request req_1)"


def test_fields_and_their_defaults():
    error = TooManyRequests("full", retry_after=3.0)
    assert (error.message, error.code, error.retry_after) == ("full", "queue_full", 3.0)
    assert (error.request_id, error.errors) == (None, [])
    assert NotFound("gone", code="task_not_found").code == "task_not_found"


def test_the_errors_of_a_422_are_a_copy():
    given = [{"loc": ["body"], "msg": "wrong", "type": "value_error"}]
    error = Unprocessable("wrong", errors=given)
    given.clear()
    assert len(error.errors) == 1


def test_a_wait_that_timed_out_is_a_timeout_error_too():
    with pytest.raises(TimeoutError):
        raise errors.WaitTimeout("30 s have passed")
