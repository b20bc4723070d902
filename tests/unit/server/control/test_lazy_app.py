"""An application that is made while others are served."""

import asyncio
import gc
import sys
import threading

import pytest
from server_links import in_loop

from openlaunch.server.control.lazy_app import SWITCH_SECONDS, LazyApp


async def nothing(*_: object) -> None:
    """Stands for what an application receives and sends with."""


def app_that_notes(paths: list[str]):
    async def app(scope, receive, send):
        paths.append(scope["path"])

    return app


@in_loop
async def test_requests_that_come_early_wait_for_it():
    go, paths = threading.Event(), []

    def make():
        assert go.wait(30)
        return app_that_notes(paths)

    later = LazyApp(make)
    early = asyncio.create_task(later({"path": "/early"}, nothing, nothing))
    await asyncio.sleep(0)
    assert not early.done()
    go.set()
    await asyncio.wait_for(early, 30)
    await later({"path": "/late"}, nothing, nothing)
    assert paths == ["/early", "/late"]


@in_loop
async def test_who_stops_waiting_does_not_stop_it():
    go, paths = threading.Event(), []

    def make():
        assert go.wait(30)
        return app_that_notes(paths)

    later = LazyApp(make)
    early = asyncio.create_task(later({"path": "/early"}, nothing, nothing))
    await asyncio.sleep(0)
    early.cancel()
    go.set()
    await later({"path": "/late"}, nothing, nothing)
    assert paths == ["/late"]


@in_loop
async def test_why_it_could_not_be_made_is_told():
    def make():
        raise ImportError("no framework")

    later = LazyApp(make)
    with pytest.raises(ImportError, match="no framework"):
        await later({"path": "/"}, nothing, nothing)
    with pytest.raises(ImportError):
        await later.made


@in_loop
async def test_some_requests_do_not_wait_for_it():
    go, paths, sent = threading.Event(), [], []

    def make():
        assert go.wait(30)
        return app_that_notes(paths)

    async def send(message):
        sent.append(message)

    later = LazyApp(make, {"/alive": b"{}"})
    alive = {"path": "/alive", "method": "GET"}
    async with asyncio.timeout(30):
        await later(alive, nothing, send)
        assert [message.get("status") for message in sent] == [200, None]
        assert (sent[1]["body"], paths) == (b"{}", [])
        go.set()
        await later.made
        await later(alive, nothing, send)
    assert paths == ["/alive"]


@in_loop
async def test_nothing_that_is_served_waits_for_collections_or_long_for_the_lock():
    def now():
        return gc.isenabled(), sys.getswitchinterval()

    before, meanwhile = now(), []

    def make():
        meanwhile.append(now())
        return app_that_notes([])

    try:
        await LazyApp(make).made
        assert meanwhile == [(False, SWITCH_SECONDS)]
        assert (now(), gc.get_freeze_count() > 0) == (before, True)
    finally:
        gc.unfreeze()
