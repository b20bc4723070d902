"""What the page shows of endpoints, and how they are changed there."""

import json
import re

import pytest
from page_driver import MARKUP, double, open_endpoint, see, sign_in
from server_driver import SMALL, args, eventually

pytestmark = pytest.mark.slow


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


def test_the_openapi_document_of_an_endpoint_is_shown_and_saved(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "OpenAPI")
    see(page, re.compile('"double-RequestSchema"'))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    assert "double-RequestSchema" in json.loads(download.value.path().read_text())["components"]["schemas"]


def test_a_log_is_followed_and_searched(page, client):
    sign_in(page, client)
    open_endpoint(page, "double", "Logs")
    client.get_model_endpoint("double").predict(args(x=77))
    page.get_by_label("Log", exact=True).get_by_text(f"asked for 77 {MARKUP}").wait_for()
    page.get_by_label("Search").fill("no line has this")
    page.get_by_label("Log", exact=True).get_by_text("No line has this.").wait_for()


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
