"""Group commit: many operations in one transaction, each of which succeeds or fails alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection

Operation = Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: its result, or what it raised."""

    result: Any = None
    error: Exception | None = None


def _never(_: Exception) -> bool:
    return False


class Group:
    """Operations that go to disk in one transaction.

    Each is asked for when those before it have run, so that the caller can end a group that takes long.

    When one raises, all are run again, each inside a savepoint, so that only the changes of those that raise
    are undone. That costs one more run and no more commit; nothing is paid for it as long as none raises.
    """

    def __init__(
        self, operations: Iterable[Operation], breaks_off: Callable[[Exception], bool] = _never
    ) -> None:
        """Take operations; `breaks_off` says of what one raises whether it has ended the whole transaction."""
        self._rest = iter(operations)
        self._begun: list[Operation] = []
        self._breaks_off = breaks_off
        self.at_commit = False
        """Whether the last call has come to its COMMIT: where that fails, it may have taken place."""
        self.outcomes: list[Outcome] = []
        """What holds once the transaction is committed, in the order of the operations."""

    def commit(self, conn: Connection) -> list[Outcome]:
        """Run the operations, those of an earlier call again, and commit; return the outcomes.

        Raises:
            sqlalchemy.exc.DBAPIError: the transaction could not be begun or committed.
            Exception: what an operation raised that has ended the whole transaction.
        """
        if not self._run_plain(conn):
            with conn.begin():
                self.outcomes = [self._run_in_savepoint(conn, operation) for operation in self._all()]
                self.at_commit = True
        return self.outcomes

    def _run_plain(self, conn: Connection) -> bool:
        """Commit all operations, or return False: one of them raised, beside others."""
        self.outcomes, self.at_commit = [], False
        with conn.begin() as transaction:
            try:
                for operation in self._all():
                    self.outcomes.append(Outcome(operation(conn)))
            except Exception as error:
                if self._breaks_off(error):
                    raise
                transaction.rollback()
                self._begun += islice(self._rest, 1)
                self.outcomes = [Outcome(error=_deliverable(error))]
                return len(self._begun) == 1
            self.at_commit = True
        return True

    def _all(self) -> Iterator[Operation]:
        yield from tuple(self._begun)
        for operation in self._rest:
            self._begun.append(operation)
            yield operation

    def _run_in_savepoint(self, conn: Connection, operation: Operation) -> Outcome:
        savepoint = conn.begin_nested()
        try:
            result = operation(conn)
        except Exception as error:
            if self._breaks_off(error):
                raise
            savepoint.rollback()
            return Outcome(error=_deliverable(error))
        savepoint.commit()
        return Outcome(result)


def _deliverable(error: Exception) -> Exception:
    """Return the error as one that a future takes: a StopIteration would be lost in it."""
    return RuntimeError("the operation raised StopIteration") if isinstance(error, StopIteration) else error
