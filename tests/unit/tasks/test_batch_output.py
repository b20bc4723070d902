"""Writing the results of a batch job."""

import json
import pickle

import cloudpickle
import pytest

from openlaunch.tasks.batch_output import JsonResults, PickledResults
from openlaunch.tasks.states import failure

SUCCESS = b'{"status": "SUCCESS", "result": {"result": "1"}, "traceback": null, "status_code": 200}'
FAILURE = failure("no", 422)


@pytest.mark.parametrize("bodies", [[], [SUCCESS], [SUCCESS, FAILURE, SUCCESS]])
def test_json_results_are_one_array_in_order(bodies):
    writer = JsonResults()
    data = b"".join(map(writer.body, bodies)) + writer.end()
    assert json.loads(data) == [json.loads(body) for body in bodies]


@pytest.mark.parametrize("values", [[], [{1, 2}], ["a", b"\x00" * 70_000, None, {"deep": [1.5]}]])
def test_pickled_results_are_one_list_of_the_values(values):
    writer = PickledResults()
    data = b"".join(writer.value(pickle.dumps(value)) for value in values) + writer.end()
    found = pickle.loads(data)
    assert [entry["result"] for entry in found] == values
    assert all(entry["status"] == "SUCCESS" and entry["status_code"] == 200 for entry in found)


def test_a_failure_among_pickles_has_the_same_keys():
    writer = PickledResults()
    data = writer.value(cloudpickle.dumps(lambda: 7)) + writer.body(FAILURE) + writer.end()
    good, bad = pickle.loads(data)
    assert good["result"]() == 7
    assert bad == json.loads(FAILURE)
    assert good.keys() == bad.keys()


def test_nothing_is_unpickled_while_results_are_written():
    writer = PickledResults()
    data = writer.value(b"no pickle at all") + writer.end()
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)
