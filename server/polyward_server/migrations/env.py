"""What alembic runs: the migrations, over the connection that it was given, in the transaction that is open there."""

from __future__ import annotations

from alembic import context

from polyward_server.tables import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables,
    render_as_batch=True,  # SQLite cannot change a column: the table is written anew
    transactional_ddl=True,
)
context.run_migrations()
