"""What is wrong with a PostgreSQL database, as a sentence that says what to do. None has a password in it."""

import psycopg
from sqlalchemy.exc import DBAPIError

from openlaunch.errors import Unavailable
from openlaunch.store.base import OUTCOME_UNKNOWN

EXAMPLE = "postgresql://USER@HOST:5432/NAME"


_FAILURES = ("08", "25006", "25P03", "28", "40", "42501", "53", "55P03", "57", "58", "XX")
"""Codes of failures, or their beginnings: of a connection, a transaction, rights, room, a lock, the system."""


class Unusable(psycopg.OperationalError):
    """A database that answers, but is not one that this server can write; the text says why and what to do."""


_AT_ANY_TIME = {
    "No space left": "its disk is full: make room there",
    "read-only": "it can only be read: name the primary server",
    "permission denied": "the user lacks rights: GRANT CREATE ON SCHEMA public, or have it own the database",
    "too many clients": "it has no free connection: raise its max_connections",
    "connection slots": "it has no free connection: raise its max_connections",
    "starting up": "it is starting: wait until it has",
    "shutting down": "it is stopping: start it again",
    "lock timeout": "another session of it holds a lock on a table: end that one",
}
"""What to do, by a part of the text: most of these errors come without a code."""

_AT_START = {
    **_AT_ANY_TIME,
    "resolve host": "the host is unknown: check its name in the URL",
    "translate host": "the host is unknown: check its name in the URL",
    "refused": "nothing listens at that host and port: start PostgreSQL there, or correct the URL",
    "No such file": "there is no socket in that folder: start PostgreSQL there, or correct the URL",
    "timeout": "the host does not answer: check the URL, and the firewalls between",
    "no password supplied": "a password is needed: give it in OPENLAUNCH_STORE, PGPASSWORD or ~/.pgpass",
    "password authentication": "user or password is wrong: correct the URL, PGPASSWORD or ~/.pgpass",
    "pg_hba.conf": "PostgreSQL lets nobody in from this machine like this: add a line to its pg_hba.conf",
    "does not exist": "make what does not exist, with createdb or createuser, or correct the URL",
}


def driver_error(error: BaseException) -> BaseException:
    """Return psycopg's own error, if it is one or stands behind one of SQLAlchemy's."""
    return error.orig or error if isinstance(error, DBAPIError) else error


def is_of_database(error: BaseException) -> bool:
    """Return whether the database failed, rather than a statement that it was given."""
    cause = driver_error(error)
    if not isinstance(cause, psycopg.Error):
        return False
    code = cause.sqlstate  # none where there is no connection, or none now
    return (code is None and isinstance(cause, psycopg.OperationalError)) or (code or "").startswith(
        _FAILURES
    )


class NoAnswer(Exception):
    """The database failed before it had answered a COMMIT: `__cause__` says how."""


def explained(error: Exception) -> Exception:
    """Make the error for callers: Unavailable if the database failed; a faulty statement's error stays as it is.

    It names no host and no user, because every caller of the server sees it.
    """
    if isinstance(error, NoAnswer):
        return Unavailable(
            "the database has not answered yet whether this is stored: look before you send it again, or send it "
            "with an Idempotency-Key",
            code=OUTCOME_UNKNOWN,
            retry_after=2,
        )
    if not is_of_database(error):
        return error
    cause = driver_error(error)
    if isinstance(cause, Unusable):
        what = str(cause).partition(":")[0]
    else:
        what = _found(_AT_ANY_TIME, str(cause)) or "it does not answer"
    return Unavailable(
        f"the database can't be used: {what}; the server tries again for each request",
        code="store_unavailable",
        retry_after=2,
    )


def sentence(error: BaseException) -> str:
    """Say what PostgreSQL said, on one line, and what to do."""
    cause = driver_error(error)
    if isinstance(cause, Unusable):
        return str(cause)
    said = " ".join(str(cause).split())
    return f"{said}; {_found(_AT_START, said) or 'check the URL'}"


def _found(advice: dict[str, str], text: str) -> str | None:
    return next((what for part, what in advice.items() if part in text), None)
