"""What pages that are left open cost the server: each is a page of a real browser, which polls as it does for people.

`open_pages.py ENDPOINTS PAGES SECONDS` prints one line of JSON: the CPU of the server in percent of a core, without a
page, with PAGES open lists of all endpoints, and with as many pages of one endpoint, which gets a prediction each
second; the requests of the pages; and in milliseconds, from a click to the list, the time, and the CPU of the page
and of the server. It needs Chromium.
"""

import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
from playwright.sync_api import Page, sync_playwright

import openlaunch
from openlaunch import EndpointRequest, LaunchClient

SMALL = {"cpus": 0.01, "memory": "8Mi"}


def null():
    return None


class Server:
    """The server's process, and an endpoint that is used."""

    def __init__(self, client: LaunchClient, endpoints: int) -> None:
        self._process = psutil.Process(client.server.pid)
        self._used = client.deploy(null, name="used", max_workers=1, **SMALL)
        bundle = self._used.model_endpoint.bundle_name

        def create(number: int) -> None:
            client.create_model_endpoint(
                endpoint_name=f"e{number}", model_bundle=bundle, endpoint_type="sync", min_workers=0, **SMALL
            )

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(endpoints - 1)))

    @property
    def used(self) -> str:
        return str(self._used.model_endpoint.id)

    def cpu(self) -> float:
        """Return the seconds of CPU that the process has had."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def share(self, pages: list[Page], seconds: float) -> float:
        """Return how much of a core it takes, in percent, while an endpoint is used each second."""
        before, began = self.cpu(), time.monotonic()
        while time.monotonic() < began + seconds:
            self._used.predict(EndpointRequest(args={}))
            if pages:
                pages[0].wait_for_timeout(1000)  # which lets the browser's events in
            else:
                time.sleep(1)
        return 100 * (self.cpu() - before) / (time.monotonic() - began)


def opened(context, server: Server, url: str, number: int, seconds: float) -> dict[str, float]:
    """Open the same page so many times, and return what that costs."""
    pages, asked = [context.new_page() for _ in range(number)], []
    for page in pages:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
    for page in pages:
        page.locator("main table").first.wait_for(timeout=120_000)
    asked.clear()
    share = server.share(pages, seconds)
    requests = len(asked)
    for page in pages:
        page.close()
    return {"percent": round(share, 2), "requests": requests}


def first_list(context, server: Server, url: str) -> dict[str, float]:
    """Return what it costs to go from another page to the list."""
    page = context.new_page()
    page.goto(f"{url}/#notifications")
    page.get_by_role("heading", name="Notifications").wait_for()
    measured = context.new_cdp_session(page)
    measured.send("Performance.enable")

    def task_seconds() -> float:
        found = measured.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in found if each["name"] == "TaskDuration"))

    before, cpu, began = task_seconds(), server.cpu(), time.perf_counter()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Endpoints").click()
    page.locator("tbody tr").first.wait_for()
    took = time.perf_counter() - began
    costs = {"took": took, "page_cpu": task_seconds() - before, "server_cpu": server.cpu() - cpu}
    page.close()
    return {name: round(1000 * seconds, 1) for name, seconds in costs.items()}


def main() -> None:
    endpoints, pages, seconds = (int(each) for each in sys.argv[1:4])
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with openlaunch.local() as client, sync_playwright() as driver:
        server, url = Server(client, endpoints), client.server.url
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context()
        signing_in = context.new_page()
        signing_in.goto(f"{url}/#link={client.make_page_link()}")
        signing_in.get_by_role("heading", name="Endpoints").wait_for()
        signing_in.close()
        alone = round(server.share([], seconds), 2)
        first = first_list(context, server, url)
        lists = opened(context, server, url, pages, seconds)
        ones = opened(context, server, f"{url}/#endpoints/{server.used}", pages, seconds)
        browser.close()
    found = {
        "endpoints": endpoints,
        "pages": pages,
        "seconds": seconds,
        "without": alone,
        "first_list_ms": first,
    }
    print(json.dumps({**found, "lists": lists, "one_endpoint": ones}))


if __name__ == "__main__":
    main()
