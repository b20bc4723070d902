"""The page in a real browser: what a team does with it, and what models and users can't do with it."""

import json
import re
import shutil
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from openai_driver import mock_engine
from pydantic import BaseModel, Field
from server_driver import SMALL, args, eventually, http, running

import openlaunch

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python")

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(axe.__file__).parent / "axe.min.js"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


class Number(BaseModel):
    x: int = Field(description=MARKUP)
    note: str = ""


class Anything(BaseModel):
    pass


def double(x, note=""):
    print("asked for", x, MARKUP, flush=True)
    if x < 0:
        raise ValueError(f"{MARKUP} is negative")
    return f"{2 * x}{note}"


def count(x, note=""):
    yield from range(x)


def load():
    raise RuntimeError(f"no weights {MARKUP}")


def waits_for(path, context: openlaunch.Context):
    """Says how far it is, and waits for a file."""
    context.progress(0.5, f"half {MARKUP}")
    while not Path(path).exists():
        time.sleep(0.05)


@pytest.fixture(scope="module")
def client():
    with running() as client:
        schemas = {"request_schema": Number, "response_schema": Anything}
        labels = {"labels": {"team": MARKUP}, "env": {"NOTE": MARKUP}}
        client.deploy(double, name="double", max_workers=1, **schemas, **labels, **SMALL)
        client.deploy(count, name="count", endpoint_type="streaming", **schemas, **SMALL)
        later = client.deploy(double, name="later", endpoint_type="async", **schemas, **SMALL)
        client.deploy(double, load_model_fn=load, name="broken", wait=False, **SMALL)
        assert later.predict(args(x=-1)).get(60).status == "FAILURE"
        client.deploy(double, name="later", endpoint_type="async", **schemas, **SMALL)
        mock_engine(client, "chat")
        client.create_trigger(name="nightly", cron_schedule="30 4 * * 1", endpoint="later", args={"x": 1})
        bundle = client.get_model_endpoint("double").model_endpoint.bundle_name
        inputs = [{"x": 1}, {"x": -1}]
        client.batch_async_request(model_bundle=bundle, inputs=inputs, labels={"run": MARKUP}, **SMALL)
        eventually(lambda: client.get_model_endpoint("broken").model_endpoint.status == "UPDATE_FAILED")
        yield client


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: tools/install.sh chromium, or your system's package")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(client, chromium):
    """A page whose faults, dialogs and requests to other hosts fail the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page, wrong = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    own = (client.server.url, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else wrong.append(asked.url))
    yield page
    assert page.locator("main img, main script").count() == 0
    context.close()
    assert wrong == []


def sign_in(page, client, key=None):
    page.goto(client.server.url)
    page.get_by_label("API key").fill(key or client.server.api_key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Endpoints").wait_for()


def open_endpoint(page, name, tab=None):
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Endpoints").click()
    page.get_by_role("link", name=name, exact=True).click()
    if tab:
        page.get_by_role("link", name=tab, exact=True).click()


def expect(locator):
    return sync_api.expect(locator)


def see(page, text):
    page.locator("main").get_by_text(text).first.wait_for()


def test_a_wrong_key_is_refused_and_the_right_one_shows_what_is_wrong_on_top(page, client):
    page.goto(client.server.url)
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("unknown or has been revoked").wait_for()
    sign_in(page, client)
    broken = page.locator("tbody tr", has=page.get_by_role("link", name="broken", exact=True))
    broken.get_by_text("update failed", exact=True).wait_for()
    broken.get_by_text(f"no weights {MARKUP}").wait_for()
    page.get_by_label("Search").fill("double")
    eventually(lambda: page.locator("tbody tr").count() == 1)


def test_a_link_signs_in(page, client):
    page.goto(f"{client.server.url}/#link={client.make_page_link()}")
    page.get_by_role("heading", name="Endpoints").wait_for()
    assert "link" not in page.url


def test_an_endpoint_says_why_it_does_not_serve(page, client):
    sign_in(page, client)
    open_endpoint(page, "broken")
    see(page, "no weights")
    assert page.locator("main").inner_text().lower().count("next try") <= 1
    open_endpoint(page, "broken", "Events")
    see(page, re.compile("failed"))


def test_an_endpoint_shows_its_workers_and_an_admin_the_servers_and_nodes(page, client):
    sign_in(page, client)
    open_endpoint(page, "double")
    workers = page.get_by_role("region", name="Workers")
    workers.get_by_text("ready").wait_for()
    workers.get_by_text("this machine").wait_for()
    open_endpoint(page, "broken")
    see(page, "It has no worker now")
    page.get_by_role("link", name="Admin").click()
    owners = page.get_by_role("region", name="Owners")
    owners.locator("tbody tr").first.wait_for()
    heads = owners.locator("th").all_inner_texts()
    now = owners.locator("tbody tr", has=page.get_by_role("link", name="admin", exact=True)).locator("td")
    assert int(now.nth(heads.index("Workers now")).inner_text()) >= 4
    owners.get_by_role("link", name="admin", exact=True).click()
    assert page.get_by_label("Search").input_value() == "admin/"
    page.get_by_role("link", name="double", exact=True).wait_for()
    page.get_by_role("link", name="Admin").click()
    page.get_by_role("link", name="Server", exact=True).click()
    page.get_by_role("region", name="Servers").get_by_text(client.server.url).wait_for()
    see(page, "Workers run on the server's machine.")


def test_all_that_was_counted_of_an_endpoint_is_shown(page, client):
    client.get_model_endpoint("double").predict(args(x=-1))
    sign_in(page, client)
    open_endpoint(page, "double", "Numbers")
    times = page.get_by_role("region", name="Times")
    times.get_by_text("Its run in a worker").wait_for()
    see(page, re.compile(r"[1-9]\d* model error"))
    page.get_by_role("link", name="Admin").click()
    page.get_by_role("link", name="Server", exact=True).click()
    see(page, "Operations in a commit")


def test_what_fails_is_above_what_serves_with_its_traffic(page, client):
    endpoint = client.get_model_endpoint("double")
    endpoint.predict(args(x=1))
    endpoint.predict(args(x=-1))
    sign_in(page, client)
    first = page.locator("tbody tr").first
    first.get_by_role("link", name="double", exact=True).wait_for()
    first.get_by_role("img", name=re.compile(r"[1-9]\d* predictions in the last hour")).wait_for()
    first.get_by_text(re.compile(r"^[0-9.]+ m?s$")).first.wait_for()


def test_an_endpoint_has_charts_of_three_times(page, client):
    client.get_model_endpoint("double").predict(args(x=-1))
    sign_in(page, client)
    open_endpoint(page, "double")
    chart = page.get_by_role(
        "img", name=re.compile("^Predictions a second in the last hour: all .*, failed ")
    )
    chart.wait_for()
    eventually(lambda: "L" in (chart.locator("path").first.get_attribute("d") or ""))
    for wanted, shown in (("24h", "last day"), ("14d", "last two weeks")):
        page.get_by_label("Range").select_option(wanted)
        page.get_by_role(
            "img", name=re.compile(f"^Time of a prediction in the {shown}: p99 in the worker ")
        ).wait_for()


def test_what_is_wrong_is_said_with_since_when_in_the_list_and_with_the_log_beside_it(page, client):
    fails = client.deploy(double, name="fails", max_workers=1, **SMALL)
    for _ in range(5):
        fails.predict(args(x=-1))
    sign_in(page, client)
    row = page.locator("tbody tr", has=page.get_by_role("link", name="fails", exact=True))
    row.get_by_text(re.compile("^(now|.* ago): predictions began to fail: ValueError")).wait_for()
    open_endpoint(page, "fails")
    see(page, re.compile("predictions began to fail: ValueError"))
    page.get_by_role("link", name="The log has the tracebacks").click()
    page.get_by_label("Log", exact=True).get_by_text("Traceback").first.wait_for()
    client.delete_model_endpoint("fails")


def test_what_changes_something_asks_first_and_says_what_has_happened(page, client):
    with http(client) as raw:
        raw.post("/v1/files", files={"file": ("gone.txt", b"x")})
    made = client.create_api_key("short-lived")
    sign_in(page, client)
    for path, button, of, said in (
        ("jobs/triggers", "Suspend", "nightly", "The trigger is suspended."),
        ("jobs/triggers", "Resume", "nightly", "The trigger is resumed."),
        ("stored", "Delete", "gone.txt", "The file is deleted."),
        ("admin/keys", "Revoke", f"{made.api_key[:7]}", "The key is revoked."),
    ):
        page.goto(f"{client.server.url}/#{path}")
        page.get_by_role("button", name=re.compile(f"^{button}: {re.escape(of)}")).click()
        page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()
        page.get_by_role("status").get_by_text(said).wait_for()


def test_an_address_that_nobody_gave_is_answered_with_a_sentence(page, client):
    sign_in(page, client)
    for path in ("endpoints/x/constructor", "tasks/%E0", "nothing", "endpoints/end_nobody"):
        page.goto(f"{client.server.url}/#{path}")
        page.get_by_role("alert").get_by_text("This can't be shown").wait_for()
        page.get_by_role("link", name="All endpoints").click()
        page.get_by_role("heading", name="Endpoints").wait_for()


def test_the_openapi_document_of_an_endpoint_is_shown_and_saved(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "OpenAPI")
    see(page, re.compile('"double-RequestSchema"'))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    assert "double-RequestSchema" in json.loads(download.value.path().read_text())["components"]["schemas"]


def test_a_prediction_is_made_from_the_form_of_its_schema(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "Try it")
    page.get_by_label("x", exact=True).fill("21")
    page.get_by_label("A file for note").set_input_files(
        {"name": "note.txt", "mimeType": "text/plain", "buffer": MARKUP.encode()}
    )
    eventually(lambda: page.get_by_label("note", exact=True).input_value() == MARKUP)
    see(page, re.compile(r'"x": 21'))  # the code to copy
    page.get_by_role("button", name="Predict").click()
    see(page, f"42{MARKUP}")
    page.get_by_label("x", exact=True).fill("-1")
    page.get_by_role("button", name="Predict").click()
    see(page, "It failed")


def test_a_stream_comes_item_by_item_and_a_task_has_its_result(page, client):
    sign_in(page, client)
    open_endpoint(page, "count", "Try it")
    page.get_by_label("x", exact=True).fill("3")
    page.get_by_role("button", name="Predict").click()
    see(page, re.compile("3 items"))
    open_endpoint(page, "later", "Try it")
    page.get_by_label("x", exact=True).fill("5")
    page.get_by_role("button", name="Predict").click()
    see(page, "10")


def test_a_language_model_is_asked_by_the_routes_that_it_serves(page, client):
    client.get_model_endpoint("chat").wait_until_ready(60)
    sign_in(page, client)
    open_endpoint(page, "chat", "Try it")
    request = page.get_by_label("Request as JSON")
    assert json.loads(request.input_value())["model"] == "chat"
    page.get_by_role("button", name="Send").click()
    see(page, re.compile("^Answer in "))
    assert page.get_by_role("region", name="Answer").inner_text().strip()
    page.get_by_label("Route").select_option("/v1/embeddings")
    page.get_by_role("button", name="Send").click()
    see(page, re.compile('"embedding"'))
    request.fill("{")
    page.get_by_role("button", name="Send").click()
    see(page, re.compile("The request is not JSON"))


def test_a_failed_task_shows_its_traceback_and_is_run_again(page, client):
    sign_in(page, client)
    page.get_by_role("link", name="Tasks").click()
    page.get_by_label("Status").select_option("FAILURE")
    page.locator("td a[href^='#tasks/']").first.click()
    see(page, "Traceback")
    see(page, re.compile("is negative"))
    first = page.url
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: url != first)
    see(page, re.compile("is negative"))


def test_tasks_are_found_by_label_time_and_id(page, client):
    name = f"found-{time.time_ns()}"
    labelled = client.deploy(double, name=name, endpoint_type="async", labels={"run": name}, **SMALL)
    (task_id,) = [labelled.predict(args(x=3)).async_task_id]
    sign_in(page, client)
    page.get_by_role("link", name="Tasks").click()
    page.get_by_label("Label of its endpoint").fill(f"run={name}")
    page.get_by_label("Submitted from").fill("2020-01-01T00:00")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=task_id).wait_for()
    page.get_by_label("Submitted until").fill("2020-01-02T00:00")
    page.get_by_role("button", name="Search").click()
    see(page, "No task fits.")
    page.get_by_label("Id", exact=True).fill(task_id)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("heading", name=f"Task {task_id}").wait_for()


def test_a_task_that_runs_says_how_far_it_is(page, client, tmp_path):
    endpoint = client.deploy(waits_for, name="slow", endpoint_type="async", max_workers=1, **SMALL)
    task = endpoint.predict(args(path=str(tmp_path / "go")))
    sign_in(page, client)
    page.goto(f"{client.server.url}/#tasks/{task.async_task_id}")
    see(page, f"50 % half {MARKUP}")
    (tmp_path / "go").touch()
    task.get(60)


def test_a_batch_for_a_model_shows_its_progress_and_its_answers_are_saved(page, client):
    client.get_model_endpoint("chat").wait_until_ready(60)
    asked = {"model": "chat", "messages": [{"role": "user", "content": MARKUP}]}
    of = {"method": "POST", "url": "/v1/chat/completions", "body": asked}
    lines = "".join(json.dumps({"custom_id": f"line-{n}", **of}) + "\n" for n in range(3))
    with http(client) as raw:
        stored = raw.post("/v1/files", files={"file": ("in.jsonl", lines)}, data={"purpose": "batch"}).json()
        batch = {"input_file_id": stored["id"], "endpoint": of["url"], "metadata": {"note": MARKUP}}
        assert raw.post("/v1/batches", json=batch).status_code == 200
    sign_in(page, client)
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("link", name="Batches for models").click()
    see(page, "3 of 3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Answers").click()
    answers = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert {each["custom_id"] for each in answers} == {"line-0", "line-1", "line-2"}


def test_a_file_is_uploaded_and_saved_as_it_was(page, client):
    content = b"\x89PNG\x00\xff"
    sign_in(page, client)
    page.get_by_role("link", name="Files").click()
    page.get_by_label("A new file").set_input_files(
        {"name": "bits.png", "mimeType": "image/png", "buffer": content}
    )
    page.get_by_role("button", name="Upload").click()
    page.get_by_role("status").get_by_text("The file is stored.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save: bits.png").click()
    assert download.value.path().read_bytes() == content


def test_a_log_is_followed_and_searched(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "Logs")
    client.get_model_endpoint("double").predict(args(x=77))
    page.get_by_label("Log", exact=True).get_by_text(f"asked for 77 {MARKUP}").wait_for()
    page.get_by_label("Search").fill("no line has this")
    page.get_by_label("Log", exact=True).get_by_text("No line has this.").wait_for()


def test_a_url_is_subscribed_to_notifications(page, client):
    sign_in(page, client)
    page.get_by_role("link", name="Notifications").click()
    see(page, "No URL is subscribed.")
    page.get_by_label("URL").fill("https://hooks.example/here")
    page.get_by_label("queue old").uncheck()
    page.get_by_role("button", name="Subscribe").click()
    page.get_by_role("region", name="Subscriptions").get_by_text("https://hooks.example/here").wait_for()
    (made,) = client.list_subscriptions()
    assert "queue_old" not in made.events
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    see(page, "No URL is subscribed.")


def test_what_users_name_and_models_give_is_text_wherever_it_is_shown(page, client):
    with http(client) as raw:
        stored = raw.post("/v1/files", files={"file": (f"{MARKUP}.txt", MARKUP.encode())})
        assert stored.status_code == 200, stored.text
    made = client.create_subscription(f"https://hooks.example/{quote(MARKUP)}")
    client.get_model_endpoint("double").predict(args(x=1))
    later = client.get_model_endpoint("later")
    (task_id,) = [later.predict(args(x=1, note=MARKUP)).async_task_id]
    eventually(lambda: client.get_task(task_id).status == "SUCCESS")
    sign_in(page, client)
    missing = []
    page.on("response", lambda answer: missing.append(answer.url) if answer.status == 404 else None)
    double = f"endpoints/{client.get_model_endpoint('double').model_endpoint.id}"
    broken = f"endpoints/{client.get_model_endpoint('broken').model_endpoint.id}"
    for path, text in (
        ("stored", MARKUP),
        ("stored/bundles", "double"),
        ("notifications", "hooks.example"),
        (f"tasks/{task_id}", f"2{MARKUP}"),
        (double, f"team={MARKUP}"),
        (f"{double}/try", MARKUP),
        (f"{double}/openapi", "onerror=alert"),
        (f"{double}/settings", "max_workers"),
        (f"{double}/versions", "serving"),
        (f"{double}/logs", MARKUP),
        (broken, f"no weights {MARKUP}"),
        (f"{broken}/events", f"no weights {MARKUP}"),
        (f"{broken}/builds", f"no weights {MARKUP}"),
        ("jobs", f"run={MARKUP}"),
        ("jobs/models", "Batches for models"),
        ("jobs/triggers", "nightly"),
        ("admin/audit", "create subscription"),
    ):
        page.goto(f"{client.server.url}/#{path}")
        see(page, text)
        assert page.locator("main img, main script").count() == 0, path
    client.delete_subscription(made.id)
    assert missing == [], "the page asks for what there is"


def test_a_canary_is_promoted_after_a_question(page, client):
    client.deploy(double, name="promoted", **SMALL)
    bundle = client.deploy(lambda x: 3 * x, name="other", **SMALL).model_endpoint.bundle_name
    client.start_canary("promoted", bundle, percent=10)
    client.get_model_endpoint("promoted").predict(args(x=2))
    sign_in(page, client)
    open_endpoint(page, "promoted")
    see(page, "serving")
    see(page, "0 of 1 failed, in the worker p50")
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("button", name="Cancel").click()
    assert client.get_model_endpoint("promoted").model_endpoint.canary is not None
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    eventually(lambda: client.get_model_endpoint("promoted").predict(args(x=2)).value == 6)


def test_bundles_of_every_kind_have_their_size_and_what_uses_them_and_are_versions(page, client):
    sign_in(page, client)
    page.goto(f"{client.server.url}/#stored/bundles")
    for name in ("double", "chat"):
        row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True)).first
        row.get_by_text(re.compile(r"^[1-9][0-9.]* (B|KiB|MiB)$")).wait_for()
    open_endpoint(page, "chat", "Versions")
    see(page, "serving")
    stranger = client.create_api_key("looks-for-sizes").api_key
    with http(client, stranger) as raw:
        assert raw.get("/page/sizes/bundles").json() == {}
        assert raw.get("/page/sizes/bundles?owner=*").status_code == 403


def test_settings_are_changed_in_a_form_made_of_their_schema(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "Settings")
    page.get_by_label("max_workers").fill("2")
    assert page.get_by_label("memory", exact=True).input_value() == "64Mi"
    page.get_by_label("memory", exact=True).fill("96Mi")
    page.get_by_role("button", name="Change the settings").click()
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    page.get_by_role("heading", name="Now").wait_for()
    eventually(lambda: client.get_model_endpoint("double").model_endpoint.deployment_state.max_workers == 2)
    assert client.get_model_endpoint("double").model_endpoint.resource_state.memory == "96Mi"


def test_another_owner_sees_none_of_it(page, client):
    made = client.create_api_key("stranger")
    endpoint = client.get_model_endpoint("double").model_endpoint
    sign_in(page, client, made.api_key)
    see(page, "There are no endpoints.")
    see(page, "openlaunch deploy")
    assert page.get_by_role("link", name="Admin").count() == 0
    page.goto(f"{client.server.url}/#endpoints/{endpoint.id}/logs")
    see(page, "This can't be shown")


def test_a_revoked_key_is_signed_out(page, client):
    made = client.create_api_key("leaver")
    sign_in(page, client, made.api_key)
    client.revoke_api_key(made.id)
    page.get_by_label("API key").wait_for()


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
    page.evaluate(AXE.read_text())
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
    sync_api.expect(page.get_by_role("button", name="Set the quotas: admin")).to_be_enabled()
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
