"""Text types for MySQL and MariaDB: compared byte by byte, with trailing blanks; ids fit into a key.

In: the kind of server, from the dialect. Out: column types for `with_variant(..., "mysql")`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

ID_LENGTH = 190
"""Characters of an id: four ids with a time and a number fill the 3,072 bytes of a key."""


class IdText(mysql.VARCHAR):
    """An id of at most `ID_LENGTH` characters."""

    def __init__(self) -> None:
        super().__init__(ID_LENGTH)


class LongText(mysql.LONGTEXT):
    """Any other text."""


@compiles(IdText, "mysql")
@compiles(LongText, "mysql")
def _compile_with_collation(text_type: IdText | LongText, compiler: Any, **_: Any) -> str:
    # utf8mb4_bin would pad with blanks: 'a' and 'a ' would be the same id
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    sql_type = f"VARCHAR({ID_LENGTH})" if isinstance(text_type, IdText) else "LONGTEXT"
    return f"{sql_type} CHARACTER SET utf8mb4 COLLATE {collation}"
