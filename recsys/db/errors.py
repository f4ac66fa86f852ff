"""What a database's complaint means for the user: driver exceptions to errors of the house.

In: an exception of sqlite3, psycopg or pymysql. Out: the error with its exit code, or None where it is a bug of ours.
"""

from __future__ import annotations

from recsys.errors import (
    BusyDatabaseError,
    ConfigError,
    DatabaseUnavailableError,
    DataContractError,
    NotFoundError,
    RecsysError,
    TemporaryError,
    UsageError,
)
from recsys.log import printable, redact

_SQLITE: tuple[tuple[str, type[RecsysError], str], ...] = (
    ("database is locked", BusyDatabaseError, "another program writes to it; try again"),
    ("database or disk is full", TemporaryError, "make room on the disk, then run the same command again"),
    ("disk i/o error", TemporaryError, "make room on the disk or check it, then run the same command again"),
    ("readonly database", UsageError, "it may only be read; check the rights of the file and its folder"),
    ("unable to open database file", UsageError, "check that the folder exists and may be written"),
    ("file is not a database", UsageError, "the file is something else; name another one in [database] url"),
    ("database disk image is malformed", RecsysError, "the file is damaged; restore it from a copy"),
    ("could not decode to utf-8", DataContractError, "mend the text of that row, or leave the row out in the query"),
    ("no such table", NotFoundError, "run `recsys init` first"),
)
_POSTGRES: tuple[tuple[str, type[RecsysError], str], ...] = (
    ("08", DatabaseUnavailableError, "check that it runs and can be reached, then try again"),
    ("57P", DatabaseUnavailableError, "the server is stopping or starting; try again"),
    ("53", TemporaryError, "the server is out of disk, memory or connections; make room and try again"),
    ("40", BusyDatabaseError, "two transactions were in each other's way; try again"),
    ("55P03", BusyDatabaseError, "another program holds a lock; try again"),
    ("28", ConfigError, "check user and password in [database] url"),
    ("3D000", ConfigError, "create the database, or name another one in [database] url"),
    ("42501", UsageError, "the database user lacks this right"),
    ("42P01", NotFoundError, "run `recsys init` first"),
    ("25006", UsageError, "the connection may only read"),
)
_MYSQL: tuple[tuple[tuple[int, ...], type[RecsysError], str], ...] = (
    ((1045, 1044, 1698, 1130, 1251), ConfigError, "check user and password in [database] url"),
    ((1049,), ConfigError, "create the database, or name another one in [database] url"),
    (
        (0, 2002, 2003, 2006, 2013, 2055),
        DatabaseUnavailableError,
        "check that it runs and can be reached, then try again",
    ),
    (
        (1053, 1077, 1078, 1317, 1927),
        DatabaseUnavailableError,
        "the server is stopping or ended the session; try again",
    ),
    ((3, 1021, 1026, 1037, 1038, 1040, 1041, 1114, 1203), TemporaryError, "make room on the server and try again"),
    ((1205, 1213, 1020), BusyDatabaseError, "two transactions were in each other's way; try again"),
    ((1142, 1143, 1227, 1370), UsageError, "the database user lacks this right"),
    ((1146,), NotFoundError, "run `recsys init` first"),
    ((1290, 1792), UsageError, "the connection may only read"),
    ((1153, 1406), UsageError, "the server does not take a value of this size"),
)
_LOGIN = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


def first_line(error: BaseException) -> str:
    """Return the driver's own words, one line, without secrets and control characters."""
    said = error.args[1] if type(error).__module__.startswith("pymysql") and len(error.args) > 1 else error
    lines = str(said).strip().splitlines() or [type(error).__name__]
    return printable(redact(lines[0]))


def to_recsys_error(error: BaseException, where: str = "") -> RecsysError | None:
    """Return the house's error for a driver's `error` on the database `where` (a redacted URL), or None.

    Args:
        error: what sqlite3, psycopg or pymysql raised.
        where: the database as it may be shown.
    """
    place = f"database {where}".strip()
    words = first_line(error)
    module = type(error).__module__.partition(".")[0]
    if module == "sqlite3":
        for mark, kind, advice in _SQLITE:
            if mark in words.lower():
                return kind(f"{place}: {words}; {advice}")
        return None
    if module == "pymysql":
        return _of_mysql(error, place)
    if module != "psycopg":
        return None
    state = getattr(error, "sqlstate", None)
    for code, kind, advice in _POSTGRES:
        if state is not None and state.startswith(code):
            return kind(f"{place}: {words}; {advice}")
    if state is None and type(error).__name__ in ("OperationalError", "ConnectionTimeout", "InterfaceError"):
        if any(mark in str(error) for mark in _LOGIN):
            return ConfigError(f"{place}: {words}; check user, password and database in [database] url")
        return DatabaseUnavailableError(
            f"{place} does not answer ({words}); check that it runs and can be reached, then try again"
        )
    return None


def _of_mysql(error: BaseException, place: str) -> RecsysError | None:
    number, words = error.args[0] if error.args else 0, first_line(error)
    for numbers, kind, advice in _MYSQL:
        if number in numbers:
            return kind(f"{place}: {words}; {advice}")
    return None
