"""The form that the page makes of a function's annotations, for each kind of them, in a real browser."""

import dataclasses
import datetime as dt
import enum
import io
import json

import pytest
from page_driver import expect, open_endpoint, see, sign_in
from server_driver import SMALL, running

import openlaunch

np = pytest.importorskip("numpy")
images = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.slow


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Inner:
    at: dt.datetime
    tags: list[str]


@dataclasses.dataclass
class Outer:
    inner: Inner
    count: int = 1


def plain(
    at: dt.datetime,
    day: dt.date,
    color: Color,
    outer: Outer,
    either: int | str | list[int],
    sure: bool,
    maybe: int | None = None,
) -> list[str]:
    return [repr(each) for each in (at.year, day.day, color.name, outer.inner.tags, either, sure, maybe)]


def files(several: list[openlaunch.File], one: bytes, maybe: openlaunch.File | None = None) -> bytes:
    assert maybe is None
    return b"".join([each.read() for each in several]) + one


def half(image: images.Image) -> images.Image:
    return image.resize((image.width // 2, image.height // 2))


def total(array: np.ndarray, more: list[np.ndarray]) -> float:
    return float(array.sum() + sum(each.sum() for each in more))


NEEDS = {half: ["pillow"], total: ["numpy"]}


@pytest.fixture(scope="module")
def client():
    with running() as client:
        for function in (plain, files, half, total):
            needs = NEEDS.get(function, [])
            client.deploy(
                function, name=function.__name__, requirements=needs, wait=False, max_workers=1, **SMALL
            )
        for endpoint in client.list_model_endpoints():
            endpoint.wait_until_ready(200)
        yield client


@pytest.fixture
def form(client, page):
    """Open the form of an endpoint."""
    sign_in(page, client)
    return lambda name: open_endpoint(page, name, "Try it")


def given(page, label, *contents, name="some.bin"):
    chosen = [{"name": name, "mimeType": "", "buffer": each} for each in contents]
    page.get_by_label(label).set_input_files(chosen)


def saved(page, name):
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save {name}").click()
    return download.value.path().read_bytes()


def npy(*numbers):
    file = io.BytesIO()
    np.save(file, np.array(numbers))
    return file.getvalue()


def predict(page):
    page.get_by_role("button", name="Predict").click()


def test_dates_choices_objects_and_unions_are_typed(page, form):
    form("plain")
    page.get_by_label("at", exact=True).fill("2026-01-02T03:04:05Z")
    page.get_by_label("day", exact=True).fill("2026-01-07")
    page.locator("select[name=color]").select_option(label="blue")
    outer = page.get_by_label("outer", exact=True)
    like = json.loads(outer.get_attribute("placeholder"))
    assert like.keys() == {"inner", "count"}
    assert like["inner"].keys() == {"at", "tags"}
    outer.fill(json.dumps({**like, "inner": {**like["inner"], "tags": ["a"]}}))
    page.locator("select[name=sure]").select_option(label="yes")
    for either, shown in (("word", "'word'"), ("7", "7"), ("[1, 2]", "[1, 2]")):
        page.get_by_label("either", exact=True).fill(either)
        predict(page)
        value = page.locator("section", has_text="Result").locator("pre")
        expected = ["2026", "7", "'BLUE'", "['a']", shown, "True", "None"]
        expect(value).to_have_text(json.dumps(expected, indent=2))
    page.get_by_label("at", exact=True).fill("yesterday")
    predict(page)
    expect(page.get_by_role("alert")).to_contain_text("at")


def test_files_are_chosen_one_or_several_and_a_file_is_saved(page, form):
    form("files")
    given(page, "Files for several", b"\x00a", b"\xffb")
    given(page, "A file for one", b"c")
    predict(page)
    assert saved(page, "result-1.octetstream") == b"\x00a\xffbc"


def test_an_image_and_arrays_are_files(page, form):
    form("half")
    file = io.BytesIO()
    images.new("RGB", (8, 6), "red").save(file, "PNG")
    given(page, "A file for image", file.getvalue(), name="red.png")
    predict(page)
    assert images.open(io.BytesIO(saved(page, "result-1.png"))).size == (4, 3)
    form("total")
    given(page, "A file for array", npy(1, 2), name="some.npy")
    given(page, "Files for more", npy(3), npy(4, 5), name="some.npy")
    predict(page)
    see(page, "15")
    page.get_by_label("array", exact=True).fill("[[1, 2], [3, 4]]")
    page.get_by_label("more", exact=True).fill("[]")
    predict(page)
    see(page, "10")
