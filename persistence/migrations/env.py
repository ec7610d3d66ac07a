"""Run the revisions of one branch on the connection handed over by `persistence.schema`."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    **context.config.attributes["options"],
)
with context.begin_transaction():
    context.run_migrations()
