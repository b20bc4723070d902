"""Triggers that are due, whatever database is behind them."""

from pathlib import Path

import pytest
from store_drivers import OPENERS, database

from openlaunch.errors import Conflict
from openlaunch.store import image_jobs, triggers
from openlaunch.store.records import ImageJobBundleRecord, TriggerRecord


def bundle() -> ImageJobBundleRecord:
    return ImageJobBundleRecord("dib", "ada", "b", "image", "1", ["run"], {}, None, {}, False, 0)


def trigger(name: str, next_at: float, *, suspended: bool = False) -> TriggerRecord:
    """A trigger whose owner is the first letter of its name."""
    return TriggerRecord(name, name[0], name, "* * * * *", "dib", None, None, suspended, next_at, 0)


@pytest.mark.parametrize("kind", OPENERS)
def test_owners_take_turns_at_what_is_due(kind: str, tmp_path: Path) -> None:
    with database(OPENERS[kind], tmp_path) as db:
        db.write(lambda conn: image_jobs.insert_bundle(conn, bundle()))
        made = [trigger(f"a{n}", next_at=n) for n in range(5)]
        made += [trigger("b0", 9), trigger("c0", 3, suspended=True), trigger("c1", 11)]
        for each in made:
            db.write(lambda conn, one=each: triggers.insert(conn, one))
        due = [each.id for each in db.read(lambda conn: triggers.list_due(conn, 10, limit=4))]
    assert due[:2] in (["a0", "b0"], ["b0", "a0"])
    assert due[2:] == ["a1", "a2"]


@pytest.mark.parametrize("kind", OPENERS)
def test_an_owner_has_a_bounded_number(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "MAX_TRIGGERS", 2)
    with database(OPENERS[kind], tmp_path) as db:
        db.write(lambda conn: image_jobs.insert_bundle(conn, bundle()))
        for name in ("a0", "a1", "b0"):
            db.write(lambda conn, name=name: triggers.insert(conn, trigger(name, 1)))
        with pytest.raises(Conflict, match="you have 2 triggers, which is the limit"):
            db.write(lambda conn: triggers.insert(conn, trigger("a2", 1)))
