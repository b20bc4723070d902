"""A progress bar on stderr, with rich, which is loaded only where a bar is shown."""

import sys
from types import TracebackType
from typing import Any, Self


class InputsProgress:
    """How many of many inputs are done. `show`: whether there is a bar; None: on a terminal only."""

    def __init__(self, title: str, show: bool | None) -> None:
        self._title = title
        self._shown = sys.stderr.isatty() if show is None else show
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
