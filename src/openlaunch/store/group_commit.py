"""Group commit: many operations in one transaction, each of which succeeds or fails alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection

Operation = Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: its result, or what it raised."""

    result: Any = None
    error: Exception | None = None


def run_group(conn: Connection, operations: Iterable[Operation]) -> list[Outcome]:
    """Run the operations in one transaction and commit it; the outcomes are in their order.

    Each is asked for when those before it have run, so that the caller can end a group that takes long.

    When one raises, all are run again, each inside a savepoint, so that only the changes of those that raise
    are undone. That costs one more run and no more commit; nothing is paid for it as long as none raises.

    Raises:
        sqlalchemy.exc.DBAPIError: the transaction could not be begun or committed: no operation has had any effect.
    """
    begun: list[Operation] = []
    rest = iter(operations)
    outcomes = _run_plain(conn, rest, begun)
    return outcomes if outcomes is not None else _run_guarded(conn, chain(begun, rest))


def _run_plain(
    conn: Connection, operations: Iterator[Operation], begun: list[Operation]
) -> list[Outcome] | None:
    outcomes = []
    with conn.begin() as transaction:
        try:
            for operation in operations:
                begun.append(operation)
                outcomes.append(Outcome(operation(conn)))
        except Exception as error:
            transaction.rollback()
            begun += islice(operations, 1)
            return [Outcome(error=_deliverable(error))] if len(begun) == 1 else None
    return outcomes


def _run_guarded(conn: Connection, operations: Iterable[Operation]) -> list[Outcome]:
    with conn.begin():
        return [_run_in_savepoint(conn, operation) for operation in operations]


def _run_in_savepoint(conn: Connection, operation: Operation) -> Outcome:
    savepoint = conn.begin_nested()
    try:
        result = operation(conn)
    except Exception as error:
        savepoint.rollback()
        return Outcome(error=_deliverable(error))
    savepoint.commit()
    return Outcome(result)


def _deliverable(error: Exception) -> Exception:
    """Return the error as one that a future takes: a StopIteration would be lost in it."""
    return RuntimeError("the operation raised StopIteration") if isinstance(error, StopIteration) else error
