"""What FastAPI does for each request to the control plane."""

from inspect import iscoroutinefunction

from fastapi import APIRouter
from fastapi.routing import APIRoute

from openlaunch.server.control.app import control_plane
from openlaunch.server.page.routes import router as page


def routes_of(router):
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(inner := getattr(route, "original_router", None), APIRouter):
            yield from routes_of(inner)


def calls_of(dependant):
    return [dependant.call, *(call for part in dependant.dependencies for call in calls_of(part))]


def test_nothing_is_called_in_a_thread_which_takes_longer_than_most_answers():
    routes = [*routes_of(control_plane(None)), *routes_of(page(None))]
    assert len(routes) > 100
    plain = {call for route in routes for call in calls_of(route.dependant) if not iscoroutinefunction(call)}
    assert plain == set()
