"""A server stops: nothing new is taken, what runs may end, and what still runs then is broken off."""

import asyncio
import logging

from openlaunch.errors import Unavailable
from openlaunch.server.control.context import Context
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.operations.stopping import StopSignals

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05


async def stop_work(context: Context, resolver: EndpointResolver, signals: StopSignals) -> None:
    """Wait for what runs; break it off at the end of the time for that, or at a second Ctrl-C."""
    seconds = context.settings.drain_seconds
    _say_stopping(context.workers.running(), seconds)
    resolver.stopping = context.health.stopping = True
    context.tasks.stop_claiming()
    stopping = Unavailable("the server is stopping", code="stopping", retry_after=2)
    if context.workers.seats is None or context.resign is None:
        context.lanes.refuse_all(stopping)  # nobody starts workers for what waits any longer
    if context.resign is not None:
        await context.resign()
    context.controller.events.close()
    context.log_streams.close()
    await _drained(context, seconds, signals.at_once)
    context.lanes.refuse_all(stopping)
    context.workers.break_off(
        Unavailable("the server stopped before this had ended", code="interrupted", retry_after=2)
    )


def _say_stopping(running: int, seconds: float) -> None:
    if running:
        text = "stopping: waiting up to %g s for what runs (requests and tasks: %d); a second Ctrl-C ends at once"
        log.info(text, seconds, running)
    else:
        log.info("stopping: no request or task runs")


async def _drained(context: Context, seconds: float, at_once: asyncio.Event) -> None:
    """Wait until nothing runs in workers and nothing waits for one, for at most `seconds`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while running := context.workers.running() + context.lanes.waiting():
        waited = loop.time() - began
        if waited >= seconds or at_once.is_set():
            log.warning("%d requests had not ended after %.3g s; they are broken off", running, waited)
            return
        await asyncio.sleep(POLL_SECONDS)
