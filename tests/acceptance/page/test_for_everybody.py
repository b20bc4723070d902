"""The page for everybody: by keyboard, for screen readers, in every width and both colours."""

from pathlib import Path

import pytest
from page_driver import expect, open_endpoint, see, sign_in

pytestmark = pytest.mark.slow


CUT = """
[...document.querySelectorAll("main *, header *")].filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1
  && getComputedStyle(e).overflowX !== "visible" && !e.matches("pre, textarea, input, select, .reason")
).map((e) => `${e.localName} ${e.ariaLabel}: ${e.textContent.slice(0, 60)}`)
"""
"""Finds what is wider than its place, apart from what is scrolled; all of a reason is shown on hover."""


PAGES = (
    *("endpoints", "tasks", "jobs", "jobs/models", "jobs/image", "jobs/triggers", "stored", "stored/bundles"),
    *("stored/environments", "notifications", "admin", "admin/keys", "admin/audit", "admin/server"),
)


def check_for_everybody(page, name):
    """Have axe find nothing, and nothing wider than the window or than its own place."""
    axe = pytest.importorskip("axe_playwright_python")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run().then(({violations}) => violations.map((each) => each.id))")
    assert (name, found) == (name, [])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert (name, page.evaluate(CUT)) == (name, [])


@pytest.mark.parametrize(("colours", "width"), [("light", 390), ("dark", 1440)])
def test_every_state_of_a_page_can_be_used_by_everybody(page, client, tmp_path, colours, width):
    def check(state):
        page.screenshot(path=tmp_path / f"{state}.png")
        check_for_everybody(page, state)

    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(client.server.url)
    page.get_by_label("API key").fill("wrong")
    check("sign-in")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("unknown or has been revoked").wait_for()
    check("wrong-key")
    sign_in(page, client, client.create_api_key(f"new-{colours}").api_key)
    for path in ("endpoints", "tasks", "jobs", "jobs/models", "jobs/image", "jobs/triggers", "stored"):
        page.goto(f"{client.server.url}/#{path}")
        see(page, "To begin, type:")
        check(f"empty-{path.replace('/', '-')}")
    page.get_by_role("button", name="Sign out").click()
    check("question")
    page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    sign_in(page, client)
    open_endpoint(page, "double", "Try it")
    for x, shown in (("21", "42"), ("-1", "It failed"), ("1e999", "x")):
        page.get_by_label("x", exact=True).fill(x)
        page.get_by_role("button", name="Predict").click()
        see(page, shown)
        check(f"tried-{x}")
    open_endpoint(page, "double", "Logs")
    page.get_by_label("Search").fill("no line has this")
    page.get_by_label("Log", exact=True).get_by_text("No line has this.").wait_for()
    check("log-without-a-line")
    page.goto(f"{client.server.url}/#admin")
    page.get_by_role("button", name="Set the quotas: admin").click()
    page.get_by_role("dialog").get_by_text("Quotas of admin").wait_for()
    check("quotas")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Set the quotas: admin")).to_be_enabled()
    page.goto(f"{client.server.url}/#endpoints/nothing")
    page.get_by_role("alert").wait_for()
    check("not-there")


@pytest.mark.parametrize("width", [390, 1440, 3840])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_page_can_be_used_by_everybody(page, client, tmp_path, colours, width):
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": width, "height": width * 9 // 16 if width > 390 else 844})
    sign_in(page, client)
    ids = {name: client.get_model_endpoint(name).model_endpoint.id for name in ("double", "later", "chat")}
    tabs = ("", "/try", "/logs", "/numbers", "/events", "/versions", "/settings", "/builds", "/openapi")
    [failed] = client.list_tasks(status="FAILURE", limit=1).tasks
    of_one = (
        f"tasks/{failed.task_id}",
        f"endpoints/{ids['later']}/versions",
        f"endpoints/{ids['chat']}/try",
        f"endpoints/{ids['chat']}/openapi",
    )
    for path in (*PAGES, *(f"endpoints/{ids['double']}{tab}" for tab in tabs), *of_one):
        page.goto(f"{client.server.url}/#{path}")
        page.get_by_text("Loading …").wait_for(state="detached")
        page.screenshot(path=tmp_path / f"{path.replace('/', '-')}.png")
        check_for_everybody(page, path)


def tab_to(page, name):
    """Press Tab until what has this text, or label, has the focus; fail where it never has."""
    for _ in range(80):
        page.keyboard.press("Tab")
        shown = "(e => e.ariaLabel || e.labels?.[0]?.textContent || e.textContent)(document.activeElement)"
        if page.evaluate(shown).strip() == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")


def test_the_keyboard_is_enough(page, client):
    sign_in(page, client)
    page.locator("tbody tr").first.wait_for()
    tab_to(page, "double")
    page.keyboard.press("Enter")
    page.get_by_role("navigation", name="Endpoint", exact=True).wait_for()
    tab_to(page, "Try it")
    page.keyboard.press("Enter")
    page.get_by_label("x", exact=True).wait_for()
    tab_to(page, "x")
    page.keyboard.type("21")
    tab_to(page, "Predict")
    page.keyboard.press("Enter")
    see(page, "42")
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    tab_to(page, "Sign out")  # of the question, which has the focus
    page.keyboard.press("Enter")
    page.get_by_label("API key").wait_for()


@pytest.mark.parametrize(("colours", "width"), [("light", 390), ("dark", 1440)])
def test_the_pages_of_the_http_interface_need_no_other_host(page, client, colours, width):
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({"width": width, "height": 844})
    page.set_extra_http_headers({"Authorization": f"Bearer {client.server.api_key}"})
    for path, shown in (
        ("docs", "/v1/model-endpoints"),
        ("redoc", "/v1/model-endpoints"),
        ("v1/model-endpoints-api?name=double", "/v1/sync-tasks"),
    ):
        page.goto(f"{client.server.url}/{path}")
        operation = page.locator("summary", has_text=shown).first
        operation.click()
        page.get_by_role("button", name="Send").first.wait_for()
        check_for_everybody(page, path)
