"""What Alembic runs for every command: it works on the connection that it is given, in its transaction."""

from alembic import context

from openlaunch.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
