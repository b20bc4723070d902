"""`openlaunch ui`, and where `openlaunch serve` says the page is."""

import os
import subprocess
import sys

import httpx2


def test_ui_prints_a_link_that_signs_in_once(client):
    server = client.server
    done = subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", "ui", "--no-browser"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OPENLAUNCH_URL": server.url, "OPENLAUNCH_API_KEY": server.api_key},
    )
    assert done.returncode == 0, done.stderr
    url, _, link = done.stdout.strip().partition("/#link=")
    assert url == server.url
    with httpx2.Client(base_url=url, headers={"X-Openlaunch-Page": "1"}) as raw:
        statuses = [raw.post("/page/sign-in", json={"link": link}).status_code for _ in range(2)]
    assert statuses == [200, 401]
