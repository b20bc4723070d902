"""A server with endpoints, tasks and jobs of every kind, and a browser that looks at them."""

import pytest
from openai_driver import mock_engine
from page_driver import CHROMIUM, MARKUP, Anything, Number, count, double, load
from server_driver import SMALL, args, eventually, running


@pytest.fixture(scope="session")
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
    """A browser for the tests of one file: its event loop, which is the thread's, must not outlive them."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: tools/install.sh chromium, or your system's package")
    sync_api = pytest.importorskip("playwright.sync_api")
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
