"""Brings a database to the tables that this version of the server works with."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from openlaunch.errors import ConfigurationError

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(conn: Connection) -> None:
    """Run the migrations that the database has not had yet, in the transaction that `conn` is in.

    Raises:
        ConfigurationError: a newer version of the server has changed the database.

    """
    current = MigrationContext.configure(conn).get_current_revision()
    config = _config(conn)
    script = ScriptDirectory.from_config(config)
    if current == script.get_current_head():
        return
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigurationError(
            f"the database has schema {current!r}, this server knows up to {script.get_current_head()!r}: it "
            "was used by a newer version; upgrade this installation, or name another data directory"
        )
    command.upgrade(config, "head")


def _config(conn: Connection) -> Config:
    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
