"""Who sees the page: keys, links to sign in, and other owners."""

import pytest
from page_driver import MARKUP, see, sign_in
from server_driver import eventually

pytestmark = pytest.mark.slow


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
