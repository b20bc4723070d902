"""The form that the page makes of a function's annotations, for each kind of them, in a real browser."""

import dataclasses
import datetime as dt
import enum
import io
import json
import shutil

import pytest
from server_driver import SMALL, running

import openlaunch

sync_api = pytest.importorskip("playwright.sync_api")
np = pytest.importorskip("numpy")
images = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


@pytest.fixture(scope="module")
def page(client):
    """A page that has signed in; faults of its scripts fail the module."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: tools/install.sh chromium, or your system's package")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, wrong = browser.new_page(), []
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(client.server.url)
        page.get_by_label("API key").fill(client.server.api_key)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Endpoints").wait_for()
        yield page
        browser.close()
        assert wrong == []


def open_form(page, name):
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Endpoints").click()
    page.get_by_role("link", name=name, exact=True).click()
    page.get_by_role("link", name="Try it", exact=True).click()


def see(page, text):
    page.locator("main").get_by_text(text).first.wait_for()


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


def test_dates_choices_objects_and_unions_are_typed(page):
    open_form(page, "plain")
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
        sync_api.expect(value).to_have_text(json.dumps(expected, indent=2))
    page.get_by_label("at", exact=True).fill("yesterday")
    predict(page)
    sync_api.expect(page.get_by_role("alert")).to_contain_text("at")


def test_files_are_chosen_one_or_several_and_a_file_is_saved(page):
    open_form(page, "files")
    given(page, "Files for several", b"\x00a", b"\xffb")
    given(page, "A file for one", b"c")
    predict(page)
    assert saved(page, "result-1.octetstream") == b"\x00a\xffbc"


def test_an_image_and_arrays_are_files(page):
    open_form(page, "half")
    file = io.BytesIO()
    images.new("RGB", (8, 6), "red").save(file, "PNG")
    given(page, "A file for image", file.getvalue(), name="red.png")
    predict(page)
    assert images.open(io.BytesIO(saved(page, "result-1.png"))).size == (4, 3)
    open_form(page, "total")
    given(page, "A file for array", npy(1, 2), name="some.npy")
    given(page, "Files for more", npy(3), npy(4, 5), name="some.npy")
    predict(page)
    see(page, "15")
    page.get_by_label("array", exact=True).fill("[[1, 2], [3, 4]]")
    page.get_by_label("more", exact=True).fill("[]")
    predict(page)
    see(page, "10")
