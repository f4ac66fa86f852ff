"""The schema: what the migrations make is what the code expects, and a database that is not ours is left alone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from recsys.db import migrate
from recsys.db.engine import connect, fetch_rows
from recsys.errors import ConfigError, RecsysError
from recsys.store.tables import metadata


@pytest.fixture
def engine(database_url: str):
    made = connect(database_url)
    yield made
    made.dispose()


def test_the_migrations_make_the_tables_of_the_code(engine: sa.Engine) -> None:
    assert migrate.current_version(engine) is None
    newest = migrate.upgrade(engine)
    assert migrate.current_version(engine) == newest
    with engine.connect() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": True}
        unlike = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        if connection.dialect.name == "mysql":  # which has no index of some rows only, but a column in its place
            unlike = [each for each in unlike if "building" not in str(each)]
        assert unlike == []
        inspector = sa.inspect(connection)
        keys = {
            name: inspector.get_pk_constraint(name)["constrained_columns"] for name in metadata.tables
        }  # not compared by Alembic
        assert keys == {name: [column.name for column in table.primary_key] for name, table in metadata.tables.items()}
        views = {"recommendations", "similar_products", "product_clusters", "cluster_labels"}
        assert set(inspector.get_view_names()) == views
        assert {*metadata.tables, *views} >= migrate.RECSYS_TABLES


def test_ids_compare_byte_by_byte_on_postgresql(postgres_url: str) -> None:
    engine = connect(postgres_url)
    migrate.upgrade(engine)
    query = (
        "SELECT table_name, column_name, collation_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    collations = {(table, column): collation for table, column, collation in fetch_rows(engine, query, {})}
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.Text) and (column.name.endswith("_id") or column.primary_key):
                assert collations[table.name, column.name] == "C", f"{table.name}.{column.name}"
    engine.dispose()


def test_upgrading_again_changes_nothing(engine: sa.Engine) -> None:
    newest = migrate.upgrade(engine)
    before = sa.inspect(engine).get_table_names()
    assert migrate.upgrade(engine) == newest
    assert sa.inspect(engine).get_table_names() == before


def test_a_lost_view_comes_back(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW recommendations")
    migrate.upgrade(engine)
    assert fetch_rows(engine, "SELECT COUNT(*) FROM recommendations", {}) == [(0,)]


def test_a_newer_schema_is_refused(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(RecsysError, match="schema 9999, which this recsys does not know; install the newer recsys"):
        migrate.upgrade(engine)
    assert migrate.current_version(engine) == "9999"


def test_tables_of_the_shop_are_left_alone(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (email TEXT)")
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER)")
        connection.exec_driver_sql("CREATE VIEW recommendations AS SELECT email FROM users")
    with pytest.raises(ConfigError, match="has its own recommendations, users, not made by recsys.*--from-sql"):
        migrate.upgrade(engine)
    assert set(sa.inspect(engine).get_table_names()) == {"orders", "users"}


def test_a_failing_migration_leaves_nothing(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: sa.Connection, *, recreate: bool) -> None:
        raise RuntimeError("no views today")

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_create_views", broken)
        with pytest.raises(RuntimeError):
            migrate.upgrade(engine)
    if engine.dialect.name != "mysql":  # where every CREATE TABLE stands by itself
        assert sa.inspect(engine).get_table_names() == []
    newest = migrate.upgrade(engine)
    assert fetch_rows(engine, "SELECT COUNT(*) FROM recommendations", {}) == [(0,)]
    assert migrate.upgrade(engine) == newest


def test_an_init_killed_between_two_tables_starts_anew(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(mariadb_url)
    with monkeypatch.context() as patch:
        patch.setattr(
            migrate,
            "_refuse_foreign_tables",
            lambda connection: connection.exec_driver_sql("CREATE TABLE runs (a INT)"),
        )
        with pytest.raises(sa.exc.OperationalError, match="already exists"):
            migrate.upgrade(engine)
    assert {"runs", "products", migrate.VERSION_TABLE} <= set(sa.inspect(engine).get_table_names())
    assert migrate.current_version(engine) is None
    migrate.upgrade(engine)
    assert fetch_rows(engine, "SELECT COUNT(*) FROM runs WHERE state = 'building'", {}) == [(0,)]
    engine.dispose()
