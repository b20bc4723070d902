"""Values that JSON does not have, in args and in results."""

import io
import json
import pickle

import numpy as np
import PIL.Image
import pytest

from openlaunch import EndpointRequest, File
from openlaunch.client.effects import Response
from openlaunch.client.predictions import Answer, answer_of
from openlaunch.client.responses import EndpointResponse
from openlaunch_worker import answers
from openlaunch_worker.files import PARTS, of_data_url
from openlaunch_worker.frames import with_parts


def came_back(value):
    document = json.loads(answers.success(value, 1 << 30, True))
    return EndpointResponse.of(None, Answer("SUCCESS", None, document["result"]["result"])).value


def response_of(body):
    answer = body[: -1 - body[-1]]
    return EndpointResponse.of(None, answer_of(Response(200, {"content-type": PARTS}, answer)))


def came_in_parts(value):
    return response_of(answers.in_parts(value, 1 << 30, True)[1]).value


@pytest.mark.parametrize("came_back", [came_back, came_in_parts])
def test_what_a_worker_returns_comes_back_as_it_was(tmp_path, came_back):
    (tmp_path / "a b.txt").write_text("text")
    image = PIL.Image.new("RGB", (2, 1), (1, 2, 3))
    given = {
        "bytes": b"\x00\xff",
        "array": [np.arange(6, dtype="float32").reshape(2, 3)],
        "nan": np.array([np.nan]),
        "file": tmp_path / "a b.txt",
        "image": image,
        "text": "data:text/plain;base64,YQ==",
        "mark": "a;type=bytes;base64,",
    }
    got = came_back(given)
    assert got["bytes"] == b"\x00\xff"
    assert got["array"][0].dtype == np.float32
    assert np.array_equal(got["array"][0], given["array"][0])
    assert np.isnan(got["nan"]).all()
    assert (got["file"].name, got["file"].media_type, got["file"].read()) == (
        "a b.txt",
        "text/plain",
        b"text",
    )
    assert got["image"].getpixel((0, 0)) == (1, 2, 3)
    assert (got["text"], got["mark"]) == (given["text"], given["mark"])
    assert came_back(b"") == b""


def test_what_is_sent_is_a_data_url(tmp_path):
    path = tmp_path / "cat.png"
    PIL.Image.new("L", (1, 1)).save(path)
    given = {
        "path": path,
        "files": [File(b"a", name="é.txt")],
        "array": np.ones(2),
        "n": np.int64(1),
        "s": {1},
    }
    document = json.loads(EndpointRequest(args=given).body())
    assert document["typed_result"] is True
    args = document["args"]
    assert (args["n"], args["s"]) == (1, [1])
    sent = of_data_url(args["path"])
    assert (sent.name, sent.media_type, sent.read()) == ("cat.png", "image/png", path.read_bytes())
    assert of_data_url(args["files"][0]).name == "é.txt"
    assert np.array_equal(np.load(io.BytesIO(of_data_url(args["array"]).read())), np.ones(2))
    assert "typed_result" not in json.loads(EndpointRequest(args={"x": 1}).body())


def test_the_text_of_an_answer_in_parts_is_that_of_one_in_json():
    value = {"a": [b"\x00", File(b"x", name="é.txt")], "b": [1, 2.50, "ü", None]}
    response = response_of(answers.in_parts(value, 1 << 30, False)[1])
    again = pickle.loads(pickle.dumps(response))
    in_json = json.loads(answers.success(value, 1 << 30))["result"]["result"]
    assert response.result == again.result == in_json
    assert in_json in str(response)
    response.result = "1"
    assert response.result == "1"


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"mark": "a", "value": 1, "parts": [[0]]}'])
def test_an_answer_of_other_parts_is_refused(document):
    with pytest.raises(ValueError, match=r"parts|JSON|Expecting"):
        answer_of(Response(200, {"content-type": PARTS}, with_parts(b"", document)))
    with pytest.raises(ValueError, match="cut off"):
        answer_of(Response(200, {"content-type": PARTS}, b"a"))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError):
        EndpointRequest(args={"path": tmp_path / "none"}).body()


@pytest.mark.parametrize("text", ["data:a/b;type=bytes;base64,?", "data:a/b;type=other;base64,YQ=="])
def test_what_only_looks_like_it_stays_text(text):
    assert came_back(text) == text


def test_a_file_has_bytes_or_a_path():
    with pytest.raises(ValueError, match="bytes or a path"):
        File()
    assert repr(File(b"secret", name="a.png")) == "File(name='a.png', media_type='image/png')"
