"""Puts a bundle's own server to sleep, which frees its GPUs, and wakes it up, by its routes for that."""

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from openlaunch_worker.hooks import Unhealthy

SECONDS: Final = 300.0
"""How long it may take."""

_HOST: Final = "127.0.0.1"
_PAUSE: Final = 0.05
_MAX_ANSWER: Final = 2000


@dataclass(frozen=True, slots=True)
class Sleeping:
    """The routes of a server on a port of this machine."""

    port: int
    sleep_route: str
    wake_route: str
    asleep_route: str

    @classmethod
    def of(cls, port: int, flavor: dict[str, Any]) -> "Sleeping | None":
        """Return the routes that a flavour names; None where it names none."""
        sleep = flavor.get("sleep")
        return None if sleep is None else cls(port, **sleep)

    def __call__(self, asleep: bool) -> None:
        """Put the server to sleep, or wake it up, and wait until it says that it is so.

        Raises:
            Unhealthy: it refuses, does not answer, or is not there in time.
        """
        route, until = self.sleep_route if asleep else self.wake_route, time.monotonic() + SECONDS
        self._ask("POST", route)
        while self._is_asleep() is not asleep:
            if time.monotonic() > until:
                state = "asleep" if asleep else "awake"
                raise Unhealthy(f"it is not {state} {SECONDS:g} s after POST {route}")
            time.sleep(_PAUSE)

    def _is_asleep(self) -> bool:
        text = self._ask("GET", self.asleep_route)
        try:
            asleep = json.loads(text)["is_sleeping"]
        except (ValueError, LookupError, TypeError):
            asleep = None
        if not isinstance(asleep, bool):
            raise Unhealthy(
                f'GET {self.asleep_route} did not answer {{"is_sleeping": true}} or false: {text!r:.200}'
            )
        return asleep

    def _ask(self, method: str, route: str) -> str:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=SECONDS)
        try:
            connection.request(method, route)
            response = connection.getresponse()
            text = response.read(_MAX_ANSWER).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException) as error:
            raise Unhealthy(f"{method} {route} has no answer: {type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise Unhealthy(f"{method} {route} answered {response.status}: {text[:200]}")
        return text
