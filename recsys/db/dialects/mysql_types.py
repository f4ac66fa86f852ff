"""Text as MySQL and MariaDB must keep it: compared byte by byte, trailing blanks too, and ids short enough for a key.

In: the server's kind, from the dialect. Out: column types for `with_variant(..., "mysql")`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

ID_LENGTH = 190
"""Characters of an id: four of them with a time and a number fill the 3,072 bytes that a key may have."""


class IdText(mysql.VARCHAR):
    """An id, at most `ID_LENGTH` characters."""

    def __init__(self) -> None:
        super().__init__(ID_LENGTH)


class LongText(mysql.LONGTEXT):
    """Any other text."""


@compiles(IdText, "mysql")
@compiles(LongText, "mysql")
def _with_collation(kind: IdText | LongText, compiler: Any, **_: Any) -> str:
    # utf8mb4_bin itself would pad with blanks: 'a' and 'a ' would be one id
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    plain = f"VARCHAR({ID_LENGTH})" if isinstance(kind, IdText) else "LONGTEXT"
    return f"{plain} CHARACTER SET utf8mb4 COLLATE {collation}"
