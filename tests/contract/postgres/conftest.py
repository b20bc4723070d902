"""Databases of PostgreSQL, each of which is one test's alone."""

import itertools
from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, shared_server

from openlaunch.store import postgres, postgres_session

NUMBERS = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A database of the shared server that has nothing in it."""
    name = f"own_{next(NUMBERS)}"
    shared_server().execute(f"CREATE DATABASE {name}")
    yield name
    shared_server().execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(name: str) -> str:
    return shared_server().url(name)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store soon gives up what waits for an answer."""
    monkeypatch.setattr(postgres_session, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "SETTLE_SECONDS", 0.5)
