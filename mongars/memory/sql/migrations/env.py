"""Run by Alembic's commands, on the connection that `upgrade` got."""

from alembic import context

from mongars.memory.sql.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
