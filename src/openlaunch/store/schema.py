"""Bring a database's tables to this version's."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from openlaunch.errors import ConfigurationError


def upgrade(connection: Connection) -> None:
    """Run the migrations that the database lacks.

    Raises:
        ConfigurationError: a newer version of Openlaunch made the database.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    try:
        scripts.get_revision(current or "base")
    except CommandError as error:
        raise ConfigurationError(
            f"the database was made by a newer version of Openlaunch (its revision is {current}): upgrade Openlaunch"
        ) from error
    command.upgrade(config, "head")
