"""Predictions that are made on the page, of each type of endpoint."""

import json
import re

import pytest
from page_driver import MARKUP, open_endpoint, see, sign_in
from server_driver import eventually

pytestmark = pytest.mark.slow


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
