"""What an owner has stored on the page: files, bundles, triggers, keys and subscriptions."""

import re

import pytest
from page_driver import open_endpoint, see, sign_in
from server_driver import http

pytestmark = pytest.mark.slow


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
