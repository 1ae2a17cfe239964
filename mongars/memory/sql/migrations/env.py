"""Run by Alembic's commands, on the connection that `upgrade` got."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
