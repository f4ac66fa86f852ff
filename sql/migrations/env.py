"""Alembic's entry point: runs the migrations on the connection that `recsys.db.migrate` passes.

In: `config.attributes["connection"]`. Out: an upgraded schema, all in that connection's transaction.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table="recsys_schema", transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
