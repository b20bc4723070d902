"""What a worker makes of the parts of a body, by the annotations of its function, and what it answers as bytes."""

import io
import json
from typing import Annotated

import numpy as np
import numpy.typing as npt
import PIL.Image
import pydantic
import pytest
from worker_driver import Worker

from openlaunch.client.operations.deploy import loaders
from openlaunch.client.packing.interface import interface_of, made_types
from openlaunch_worker.files import DType, Shape
from openlaunch_worker.frames import Flags, Outcome, with_parts


class Sizes(pydantic.BaseModel):
    sides: list[int]


def predict(
    kind: str,
    image: PIL.Image.Image = None,
    array: np.ndarray = None,
    rows: Annotated[np.ndarray, Shape(None, 2), DType("float32")] = None,
    bytewise: npt.NDArray[np.uint8] = None,
    images: list[PIL.Image.Image] | None = None,
    sizes: Sizes | None = None,
):
    if kind == "image":
        return [image.size, image.getpixel((0, 0))]
    if kind == "array":
        given = next(each for each in (array, rows, bytewise) if each is not None)
        given += 1  # it can be written to
        return [str(given.dtype), given.shape, float(given.sum())]
    if kind == "images":
        return [each.size for each in images]
    if kind == "sizes":
        return repr(sizes)
    return {"png": image, "npy": array}[kind]


@pytest.fixture(scope="module")
def worker(by_value):
    takes = made_types(interface_of(predict, has_model=False))
    load_model, load_predict = loaders(predict, None, takes)
    with Worker({"load_model_fn": load_model, "load_predict_fn": load_predict}) as worker:
        worker.ready()
        yield worker


def sent(worker, files, flags=Flags.NONE, **args):
    """Send a request whose files are parts of its body; return what it ended with."""
    body, parts = b"", []
    for path, data in files:
        args.setdefault(path[0], [] if len(path) > 1 else "")
        if len(path) > 1:
            args[path[0]].append("")
        parts.append([path, len(body), len(body) + len(data), "image/png", "a.png"])
        body += data
    document = json.dumps({"args": args, "parts": parts}).encode()
    worker.request(None, flags | Flags.PARTS, raw=with_parts(body, document))
    _, outcome, answer = worker.answer()
    return outcome, answer


def value(worker, files, **args):
    outcome, answer = sent(worker, files, **args)
    assert outcome == Outcome.SUCCESS, answer
    return json.loads(json.loads(answer)["result"]["result"])


def refused(worker, files, **args):
    outcome, answer = sent(worker, files, **args)
    assert outcome == Outcome.FAILURE
    document = json.loads(answer)
    assert document["status_code"] == 422
    return document["traceback"]


def png(size=(3, 2)):
    file = io.BytesIO()
    PIL.Image.new("RGB", size, (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_images(worker):
    assert value(worker, [(["image"], png())], kind="image") == [[3, 2], [255, 0, 0]]
    several = [(["images", n], png((n + 1, 1))) for n in range(2)]
    assert value(worker, several, kind="images") == [[1, 1], [2, 1]]
    text = refused(worker, [(["image"], b"no image")], kind="image")
    assert text.startswith("image: an image is needed, and 8 bytes of image/png came")
    assert refused(worker, [(["image"], png()[:30])], kind="image").startswith("image: an image is needed")
    assert refused(worker, [(["images", 0], b"")], kind="images").startswith("images.0: an image is needed")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("array", npy(np.arange(6.0).reshape(2, 3)), ["float64", [2, 3], 21.0]),
        ("array", npy(np.asfortranarray(np.arange(6).reshape(2, 3))), ["int64", [2, 3], 21.0]),
        ("rows", npy(np.ones((3, 2), "float32")), ["float32", [3, 2], 12.0]),
        ("rows", np.ones((3, 2), "float32").tobytes(), ["float32", [3, 2], 12.0]),
        ("bytewise", b"\x01\x02", ["uint8", [2], 5.0]),
    ],
)
def test_arrays(worker, name, data, expected):
    assert value(worker, [([name], data)], kind="array") == expected


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("rows", npy(np.ones((3, 2))), "float32 with the shape (any, 2) is needed, and one of float64"),
        ("rows", npy(np.ones((2, 3), "float32")), "and shape (2, 3) came"),
        ("rows", npy(np.ones(2, "float32")), "and shape (2,) came"),
        ("rows", b"123", "an array of float32 with the shape (any, 2) is needed: "),
        ("array", b"123", "3 bytes of image/png came, and not application/x-npy"),
        ("array", npy(np.ones(3))[:-1], "an array is needed: "),
        ("array", npy(np.array([{}, 1], object)), "objects of Python"),
        ("array", b"\x93NUMPY", "an array is needed: "),
    ],
)
def test_another_array_says_what_was_expected_and_what_came(worker, name, data, told):
    text = refused(worker, [([name], data)], kind="array")
    assert text.startswith(f"{name}: ")
    assert told in text


def test_arrays_may_be_nested_lists(worker):
    assert value(worker, [], kind="array", rows=[[1, 2], [3, 4]]) == ["float32", [2, 2], 14.0]
    assert value(worker, [], kind="array", array=[[1, 2]]) == ["int64", [1, 2], 5.0]
    for wrong in ([[1, 2], [3]], [["a", "b"]], [[1, 2, 3]]):
        assert refused(worker, [], kind="array", rows=wrong).startswith("rows: an array of float32 ")
    for wrong in ([1.5], [300], [-1]):
        assert refused(worker, [], kind="array", bytewise=wrong).startswith("bytewise: an array of uint8 ")


def test_models_of_pydantic_are_made_as_it_makes_them(worker):
    assert value(worker, [], kind="sizes", sizes={"sides": ["1", 2.0]}) == "Sizes(sides=[1, 2])"
    assert refused(worker, [], kind="sizes", sizes={"sides": ["x"]}).startswith(
        "sizes.sides.0: Input should be a valid integer"
    )


def test_images_and_arrays_are_answered_as_bytes(worker):
    outcome, answer = sent(worker, [(["image"], png())], Flags.BINARY, kind="png")
    assert outcome == Outcome.BINARY
    assert answer.endswith(b"image/png\x09")
    assert PIL.Image.open(io.BytesIO(answer)).size == (3, 2)
    array = np.array([[1.5, float("nan")]])
    outcome, answer = sent(worker, [(["array"], npy(array))], Flags.BINARY | Flags.NPY, kind="npy")
    assert (outcome, answer[-18:-1]) == (Outcome.BINARY, b"application/x-npy")
    assert np.array_equal(np.load(io.BytesIO(answer)), array, equal_nan=True)
    outcome, _ = sent(worker, [(["array"], npy(array))], Flags.BINARY, kind="npy")
    assert outcome == Outcome.FAILURE  # NaN is not in JSON


NO_ARGS = with_parts(b"", b"{}")
NO_PLACE = with_parts(b"", b'{"args": 1, "parts": [[["a"], 0, 1, "", ""]]}')


@pytest.mark.parametrize("body", [b"", b"abc", b"\xff\xff\xff\xff", NO_ARGS, NO_PLACE])
def test_a_body_without_a_document_is_refused(worker, body):
    worker.request(None, Flags.PARTS, raw=body)
    _, outcome, answer = worker.answer()
    assert (outcome, json.loads(answer)["status_code"]) == (Outcome.FAILURE, 400)
