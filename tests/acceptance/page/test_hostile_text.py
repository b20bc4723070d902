"""Text of users and models, and wrong addresses, do the page no harm."""

from urllib.parse import quote

import pytest
from page_driver import MARKUP, see, sign_in
from server_driver import args, eventually, http

pytestmark = pytest.mark.slow


def test_an_address_that_nobody_gave_is_answered_with_a_sentence(page, client):
    sign_in(page, client)
    for path in ("endpoints/x/constructor", "tasks/%E0", "nothing", "endpoints/end_nobody"):
        page.goto(f"{client.server.url}/#{path}")
        page.get_by_role("alert").get_by_text("This can't be shown").wait_for()
        page.get_by_role("link", name="All endpoints").click()
        page.get_by_role("heading", name="Endpoints").wait_for()


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
