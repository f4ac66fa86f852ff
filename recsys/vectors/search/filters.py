"""Filter language for products, such as `price < 80 and colour in ('red', 'blue')`.

In: the text of a condition, the catalogue's frame. Out: (n,) bool. It is parsed here and never reaches SQL or Python.

    condition   := both { or both }
    both        := one { and one }
    one         := not one | ( condition ) | column test
    test        := (= | != | < | <= | > | >=) value | [not] in ( value {, value} ) | [not] between value and value
                 | [not] contains value | is [not] null
    column      := name | "name with spaces";  `colour` also finds the attribute `attributes.colour`
    value       := 12.5 | 'text' | "text" | word | true | false; a quote inside is doubled

A missing value passes no test except `is null`, also under `not`, as in SQL. Text is compared exactly, `contains`
ignores case.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.errors import UsageError, suggestion
from recsys.types import BoolArray

logger = logging.getLogger(__name__)

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)|(?P<word>[^\s'"<>=!(),]+))"""
)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_COMPARE: Final[dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]]] = {
    "=": lambda left, right: left == right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "between", "contains", "is", "null"})
_TIME_COLUMNS: Final = (schema.CREATED_AT, schema.UPDATED_AT)
_MAX_LENGTH: Final = 10_000
"""Characters of a condition, and values compared for suggestions, at most."""
_MAX_DEPTH: Final = 50
"""Nested parentheses, at most."""
_QUOTED_LENGTH: Final = 200
"""Characters of a condition quoted in a message."""


@dataclass(frozen=True)
class _Token:
    """A token with its position in the text and its kind: quoted, sign, word or end."""

    text: str
    position: int
    kind: str

    def is_(self, *words: str) -> bool:
        """Return whether the token is one of some unquoted words."""
        return self.kind != "quoted" and self.text.lower() in words


def parse_filter(where: str, frame: pl.DataFrame) -> BoolArray:
    """Evaluate a condition for each product.

    Args:
        where: the condition; see the module.
        frame: a catalogue's columns, n rows.

    Returns:
        (n,) bool.

    Raises:
        UsageError: the condition cannot be parsed (the message says at which character), a column is unknown, or a
            value does not fit its column.
    """
    if len(where) > _MAX_LENGTH:
        raise UsageError(f"where: the condition has {len(where)} characters; at most {_MAX_LENGTH} are read")
    condition = _Parser(where, frame).parse_all()
    matches = frame.select(condition.fill_null(False).alias("matches"))["matches"]
    out = (
        matches.to_numpy().astype(np.bool_)
        if len(matches) == frame.height
        else np.full(frame.height, matches[0], np.bool_)
    )
    return out


class _Parser:
    """Recursive descent parser, one method per rule of the grammar."""

    def __init__(self, text: str, frame: pl.DataFrame) -> None:
        self.text = text
        self.frame = frame
        self.tokens = _tokenize(text)
        self.next = 0
        self.depth = 0

    def parse_all(self) -> pl.Expr:
        """Parse the full text."""
        out = self.condition()
        if self.peek().kind != "end":
            raise self.error("'and', 'or' or the end")
        return out

    def condition(self) -> pl.Expr:
        """Parse terms joined by `or`."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UsageError(f"where: more than {_MAX_DEPTH} parentheses inside each other")
        parts = [self.both()]
        while self.accept("or"):
            parts.append(self.both())
        self.depth -= 1
        # One flat expression: polars takes minutes for hundreds of nested levels.
        return parts[0] if len(parts) == 1 else pl.any_horizontal(parts)

    def both(self) -> pl.Expr:
        """Parse terms joined by `and`."""
        parts = [self.one()]
        while self.accept("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else pl.all_horizontal(parts)

    def one(self) -> pl.Expr:
        """Parse a term: negation, parentheses or a test of a column."""
        negated = False
        while self.accept("not"):
            negated = not negated
        if self.accept("("):
            out = self.condition()
            self.expect(")")
        else:
            out = self.test(self.column())
        return ~out if negated else out

    def test(self, column: str) -> pl.Expr:
        """Parse the test of a column."""
        token = self.peek()
        if token.kind == "sign" and token.text in _COMPARE:
            self.next += 1
            values = [self.value(column, ordered=token.text[0] in "<>" and token.text != "<>")]
            out = _COMPARE[token.text](self.of(column), pl.lit(values[0]))
            if token.text in ("=", "=="):
                self.warn_if_absent(column, values)
            return out
        if self.accept("is"):
            negated = self.accept("not")
            self.expect("null")
            return self.of(column).is_not_null() if negated else self.of(column).is_null()
        negated = self.accept("not")
        if self.accept("in"):
            out = self.among(column)
        elif self.accept("between"):
            low = self.value(column, ordered=True)
            self.expect("and")
            out = self.of(column).is_between(pl.lit(low), pl.lit(self.value(column, ordered=True)))
        elif self.accept("contains"):
            out = (
                pl.col(column)
                .cast(pl.String)
                .str.to_lowercase()
                .str.contains(self.literal().text.lower(), literal=True)
            )
        else:
            raise self.error(f"a test of {column}, such as '=', '<', 'in' or 'between'")
        return ~out if negated else out

    def among(self, column: str) -> pl.Expr:
        """Parse the values of `in`."""
        self.expect("(")
        values = [self.value(column)]
        while self.accept(","):
            values.append(self.value(column))
        self.expect(")")
        self.warn_if_absent(column, values)
        return self.of(column).is_in(pl.Series(values).implode())

    def column(self) -> str:
        """Parse the name of a column."""
        token = self.take("a column")
        columns = self.frame.columns
        for name in (token.text, schema.ATTRIBUTE_PREFIX + token.text):
            if name in columns:
                return name
        display_names = [name.removeprefix(schema.ATTRIBUTE_PREFIX) for name in columns]
        raise UsageError(
            f"where: there is no column '{token.text}'{suggestion(token.text, display_names)}; there are "
            f"{', '.join(display_names)}"
        )

    def of(self, column: str) -> pl.Expr:
        """Return the expression that values are compared with; NaN counts as missing."""
        return pl.col(column).fill_nan(None) if self.frame.schema[column].is_float() else pl.col(column)

    def literal(self) -> _Token:
        """Parse a value as text."""
        return self.take("a value")

    def value(self, column: str, *, ordered: bool = False) -> float | int | bool | str:
        """Parse a value in the column's type; `ordered` for comparisons by order."""
        token = self.literal()
        dtype = self.frame.schema[column]
        if dtype == pl.Boolean:
            if token.text.lower() not in ("true", "false"):
                raise UsageError(f"where: column {column} holds true or false, not '{token.text}'")
            return token.text.lower() == "true"
        if not dtype.is_numeric():
            if ordered and token.kind == "word" and _NUMBER.fullmatch(token.text):
                raise UsageError(f"where: column {column} holds text; quote {token.text} to compare letter by letter")
            return token.text
        try:
            number = _parse_number(token.text)
        except ValueError:
            timestamp = _parse_timestamp(token.text) if column in _TIME_COLUMNS else None
            if timestamp is None:
                raise UsageError(f"where: column {column} holds numbers, and '{token.text}' is none") from None
            return timestamp
        return float(number) if dtype.is_float() else number

    def warn_if_absent(self, column: str, values: list[float | int | bool | str]) -> None:
        """Warn about values no product has: a misspelt value would look like an empty result."""
        if self.frame.schema[column] != pl.String:
            return
        present = self.frame[column].unique().drop_nulls()
        for value in values:
            if not (present == value).any():
                hint = suggestion(str(value), present.head(_MAX_LENGTH).sort().to_list())
                logger.warning("where: no product has %s = '%s'%s", column, value, hint)

    def peek(self) -> _Token:
        """Return the next token."""
        return self.tokens[self.next]

    def accept(self, *words: str) -> bool:
        """Consume the next token if it is one of `words`; returns whether it was."""
        if not self.peek().is_(*words):
            return False
        self.next += 1
        return True

    def expect(self, word: str) -> None:
        """Consume the next token, which must be `word`."""
        if not self.accept(word):
            raise self.error(f"'{word}'")

    def take(self, expected: str) -> _Token:
        """Consume a quoted text or a word that is no keyword."""
        token = self.peek()
        if token.kind not in ("quoted", "word") or token.is_(*_KEYWORDS):
            raise self.error(expected)
        self.next += 1
        return token

    def error(self, expected: str) -> UsageError:
        """Return an error with the expected and the actual token."""
        token = self.peek()
        actual = f"'{token.text}'" if token.kind != "end" else "its end"
        return UsageError(
            f"where: expected {expected} at character {token.position + 1}, found {actual}: "
            f"{_excerpt(self.text, token.position)}"
        )


def _tokenize(text: str) -> list[_Token]:
    """Split a condition into tokens, followed by an end token."""
    out, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise UsageError(
                f"where: cannot read {text[start]!r} at character {start + 1} (a quote left open?): "
                f"{_excerpt(text, start)}"
            )
        kind = str(match.lastgroup)
        token = match.group(kind)
        if kind == "quoted":
            token = token[1:-1].replace(token[0] * 2, token[0])
        out.append(_Token(token, match.start(kind), kind))
        position = match.end()
    return [*out, _Token("", len(text), "end")]


def _excerpt(text: str, position: int) -> str:
    """Return the part of a condition that a message quotes: a long one only near the position."""
    start = max(0, position - _QUOTED_LENGTH // 2)
    excerpt = text[start : start + _QUOTED_LENGTH]
    return f"{'...' if start else ''}{excerpt}{'...' if start + _QUOTED_LENGTH < len(text) else ''}"


def _parse_number(text: str) -> float | int:
    """Return the number a text denotes; raises ValueError for others."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)  # float() would also take 'nan', 'inf' and '1_000'
    return int(text) if _INTEGER.fullmatch(text) else float(text)


def _parse_timestamp(text: str) -> int | None:
    """Return UTC seconds of an ISO date or time; None for other texts."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
