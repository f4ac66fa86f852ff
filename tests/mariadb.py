"""A MariaDB server for the tests, and a fresh database in it for each test that asks.

In: mariadbd of the system (apt-get install mariadb-server). Out: fixtures `mariadb_server`, `mariadb_url`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks import servers


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Path]:
    """The socket of a running server; no test pulls the plug, so it syncs nothing."""
    quick = ("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--performance-schema=off")
    held = servers.mariadb(*quick)
    try:
        socket = held.__enter__()
    except servers.NoServerError as error:
        pytest.skip(f"no MariaDB: {error}")
    yield socket
    held.__exit__(None, None, None)


@pytest.fixture
def mariadb_url(mariadb_server: Path) -> Iterator[str]:
    """The URL of an empty MariaDB database, dropped after the test."""
    import pymysql

    name = f"test_{uuid4().hex}"
    with pymysql.connect(unix_socket=str(mariadb_server), user="root") as connection, connection.cursor() as cursor:
        # not what recsys wants: its tables say for themselves how text is compared
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    yield f"mysql+pymysql://root@localhost/{name}?unix_socket={mariadb_server}"
    with pymysql.connect(unix_socket=str(mariadb_server), user="root") as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")
