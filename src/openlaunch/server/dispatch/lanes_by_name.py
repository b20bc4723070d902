"""Lanes by the names of their endpoints, which several owners may use."""

from collections.abc import Mapping

from openlaunch.server.dispatch.lane import Lane


class LanesByName:
    """Finds lanes by name. An endpoint that is handed over to another owner is added again."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[str, Lane]] = {}
        """By the names of endpoints and of their owners."""

    def get(self, owner: str, name: str) -> Lane | None:
        """Return the lane of the owner's endpoint of this name."""
        return self._lanes.get(name, {}).get(owner)

    def all(self, name: str) -> Mapping[str, Lane]:
        """Return the lanes of all endpoints of this name, by their owners."""
        return self._lanes.get(name, {})

    def add(self, owner: str, name: str, lane: Lane) -> None:
        self._lanes.setdefault(name, {})[owner] = lane

    def remove(self, lane: Lane) -> None:
        """Forget a lane under the name and the owner that it has."""
        endpoint = lane.endpoint
        of_name = self._lanes.get(endpoint.name, {})
        if of_name.get(endpoint.owner) is lane:
            del of_name[endpoint.owner]
            if not of_name:
                del self._lanes[endpoint.name]
