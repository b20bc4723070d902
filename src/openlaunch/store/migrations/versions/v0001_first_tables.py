"""Name the tables of the first release, where the migrations begin.

A new database gets the newest tables from `tables.py`, so no server ever makes those of an old version. What they
were is in `tests/data/`, as a database of each release.
"""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Change nothing: there are no older tables."""
