"""What becomes of a task."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.tasks.states import State, after_death, failure


@pytest.mark.parametrize(
    ("state", "done"),
    [
        (State.PENDING, False),
        (State.STARTED, False),
        (State.SUCCESS, True),
        (State.FAILURE, True),
        (State.CANCELLED, True),
    ],
)
def test_which_states_are_final(state: State, done: bool) -> None:
    assert state.done is done


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_task_is_tried_again_until_its_attempts_are_used_up(attempts: int, max_attempts: int) -> None:
    expected = State.FAILURE if attempts >= max_attempts else State.PENDING
    assert after_death(attempts, max_attempts) is expected


@given(st.text(), st.integers(400, 599))
def test_a_failure_is_a_finished_answer_of_the_contract(reason: str, status_code: int) -> None:
    assert json.loads(failure(reason, status_code)) == {
        "status": "FAILURE",
        "result": None,
        "traceback": reason,
        "status_code": status_code,
    }
