"""What the tests of the page share: what is served, and how a user moves."""

import shutil
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

import openlaunch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
"""Text that would be a script, were it ever taken as markup."""


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
    sync_api = pytest.importorskip("playwright.sync_api")
    return sync_api.expect(locator)


def see(page, text):
    page.locator("main").get_by_text(text).first.wait_for()
