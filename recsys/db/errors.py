"""Translate driver exceptions into RecsysError subclasses.

In: an exception of sqlite3, psycopg or pymysql. Out: the error with its exit code, or None if it is a bug of recsys.
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
    ("database or disk is full", TemporaryError, "free disk space, then run the same command again"),
    ("disk i/o error", TemporaryError, "check the disk and its free space, then run the same command again"),
    ("readonly database", UsageError, "it is read-only; check the permissions of the file and its folder"),
    ("unable to open database file", UsageError, "check that the folder exists and is writable"),
    ("file is not a database", UsageError, "the file is not a database; set another one in [database] url"),
    ("database disk image is malformed", RecsysError, "the file is damaged; restore it from a backup"),
    ("could not decode to utf-8", DataContractError, "correct the text of that row, or exclude the row in the query"),
    ("no such table", NotFoundError, "run `recsys init` first"),
)
_POSTGRES: tuple[tuple[str, type[RecsysError], str], ...] = (
    ("08", DatabaseUnavailableError, "check that it runs and can be reached, then try again"),
    ("57P", DatabaseUnavailableError, "the server is stopping or starting; try again"),
    ("53", TemporaryError, "the server is out of disk space, memory or connections; free some and try again"),
    ("40", BusyDatabaseError, "two transactions were in conflict; try again"),
    ("55P03", BusyDatabaseError, "another program holds a lock; try again"),
    ("28", ConfigError, "check user and password in [database] url"),
    ("3D000", ConfigError, "create the database, or set another one in [database] url"),
    ("42501", UsageError, "the database user lacks this right; grant it"),
    ("42P01", NotFoundError, "run `recsys init` first"),
    ("25006", UsageError, "the connection is read-only; check the rights of the database user"),
)
_MYSQL: tuple[tuple[tuple[int, ...], type[RecsysError], str], ...] = (
    ((1045, 1044, 1698, 1130, 1251), ConfigError, "check user and password in [database] url"),
    ((1049,), ConfigError, "create the database, or set another one in [database] url"),
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
    ((3, 1021, 1026, 1037, 1038, 1040, 1041, 1114, 1203), TemporaryError, "free resources on the server and try again"),
    ((1205, 1213, 1020), BusyDatabaseError, "two transactions were in conflict; try again"),
    ((1142, 1143, 1227, 1370), UsageError, "the database user lacks this right; grant it"),
    ((1146,), NotFoundError, "run `recsys init` first"),
    ((1290, 1792), UsageError, "the connection is read-only; check the rights of the database user"),
    ((1153, 1406), UsageError, "the server does not accept a value of this size; shorten it"),
)
_LOGIN_ERRORS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


def first_line(error: BaseException) -> str:
    """Return the first line of the driver's message, without secrets and control characters."""
    message = error.args[1] if type(error).__module__.startswith("pymysql") and len(error.args) > 1 else error
    lines = str(message).strip().splitlines() or [type(error).__name__]
    return printable(redact(lines[0]))


def to_recsys_error(error: BaseException, database: str = "") -> RecsysError | None:
    """Return the RecsysError for a driver's error; None if it is not an expected one.

    Args:
        error: exception raised by sqlite3, psycopg or pymysql.
        database: redacted URL of the database, for the message.
    """
    subject = f"database {database}".strip()
    message = first_line(error)
    module = type(error).__module__.partition(".")[0]
    if module == "sqlite3":
        for phrase, kind, advice in _SQLITE:
            if phrase in message.lower():
                return kind(f"{subject}: {message}; {advice}")
        return None
    if module == "pymysql":
        return _from_mysql(error, subject)
    if module != "psycopg":
        return None
    state = getattr(error, "sqlstate", None)
    for code, kind, advice in _POSTGRES:
        if state is not None and state.startswith(code):
            return kind(f"{subject}: {message}; {advice}")
    if state is None and type(error).__name__ in ("OperationalError", "ConnectionTimeout", "InterfaceError"):
        if any(phrase in str(error) for phrase in _LOGIN_ERRORS):
            return ConfigError(f"{subject}: {message}; check user, password and database in [database] url")
        return DatabaseUnavailableError(
            f"{subject} does not answer ({message}); check that it runs and can be reached, then try again"
        )
    return None


def _from_mysql(error: BaseException, subject: str) -> RecsysError | None:
    number, message = error.args[0] if error.args else 0, first_line(error)
    for numbers, kind, advice in _MYSQL:
        if number in numbers:
            return kind(f"{subject}: {message}; {advice}")
    return None
