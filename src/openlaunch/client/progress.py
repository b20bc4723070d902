"""Progress on stderr: a line that is written over, and a bar, for which rich is loaded only where one is shown."""

import shutil
import sys
from types import TracebackType
from typing import Any, Self

from openlaunch.client.models import ModelEndpoint
from openlaunch.wire.endpoints import EndpointStatus


def status_text(endpoint: ModelEndpoint) -> str:
    """Return how an endpoint stands, on one line."""
    reason = f": {endpoint.status_reason}" if endpoint.status_reason else ""
    return " ".join(f"{endpoint.name} is {endpoint.status.value}{reason}".split())


def _is_shown(show: bool | None) -> bool:
    """Return whether there is something to show it on, and it is wanted; None: on a terminal."""
    if sys.stderr is None:  # as in a service, or with 2>&- in a shell
        return False
    return sys.stderr.isatty() if show is None else show


class StatusLine:
    """How an endpoint stands. `show`: whether to print it; None: on a terminal or in a notebook."""

    def __init__(self, show: bool | None) -> None:
        notebook = type(sys.stderr).__module__.startswith("ipykernel")
        self._shown = _is_shown(show) or (show is None and notebook)
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._length:
            sys.stderr.write("\n")

    def show(self, endpoint: ModelEndpoint) -> None:
        """Write over what was said before. An endpoint that is READY at once is not worth a line."""
        if not self._shown or (not self._length and endpoint.status is EndpointStatus.READY):
            return
        text = status_text(endpoint)[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"\r{text:<{self._length}}")
        sys.stderr.flush()
        self._length = len(text)


class InputsProgress:
    """How many of many inputs are done. `show`: whether there is a bar; None: on a terminal only."""

    def __init__(self, title: str, show: bool | None) -> None:
        self._title = title
        self._shown = _is_shown(show)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._title, total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, completed: int | None, pending: int | None) -> None:
        """Show how many inputs are done and how many are not; None is not known yet."""
        if self._bar is not None and completed is not None and pending is not None:
            self._bar.update(self._task, completed=completed, total=completed + pending)
