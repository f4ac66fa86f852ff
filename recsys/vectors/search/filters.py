"""Conditions on products in a small language, such as `price < 80 and colour in ('red', 'blue')`.

In: the text of a condition, the catalogue's frame. Out: (n,) bool. It is parsed here and never reaches SQL or Python.

    condition   := both { or both }
    both        := one { and one }
    one         := not one | ( condition ) | column test
    test        := (= | != | < | <= | > | >=) value | [not] in ( value {, value} ) | [not] between value and value
                 | [not] contains value | is [not] null
    column      := name | "name with spaces";  `colour` also finds the attribute `attributes.colour`
    value       := 12.5 | 'text' | "text" | word | true | false; a quote inside is doubled

A missing value meets no test but `is null`, also under `not`, as in SQL. Text is compared as it stands, `contains`
without regard to case.
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
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
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
_TIMES: Final = (schema.CREATED_AT, schema.UPDATED_AT)
_LONGEST: Final = 10_000
_DEEPEST: Final = 50
_SHOWN: Final = 200


@dataclass(frozen=True)
class _Token:
    text: str
    at: int
    kind: str

    def is_(self, *words: str) -> bool:
        return self.kind != "quoted" and self.text.lower() in words


def parse(where: str, frame: pl.DataFrame) -> BoolArray:
    """Which products meet a condition.

    Args:
        where: the condition; see the module.
        frame: a catalogue's columns, n rows.

    Returns:
        (n,) bool.

    Raises:
        UsageError: the condition cannot be read (the message says at which character), a column is unknown, or a value
            does not fit its column.
    """
    if len(where) > _LONGEST:
        raise UsageError(f"where: the condition has {len(where)} characters; at most {_LONGEST} are read")
    condition = _Parser(where, frame).whole()
    met = frame.select(condition.fill_null(False).alias("met"))["met"]
    out = met.to_numpy().astype(np.bool_) if len(met) == frame.height else np.full(frame.height, met[0], np.bool_)
    return out


class _Parser:
    """One pass from left to right, one method a rule of the grammar."""

    def __init__(self, text: str, frame: pl.DataFrame) -> None:
        self.text = text
        self.frame = frame
        self.tokens = _tokens(text)
        self.next = 0
        self.depth = 0

    def whole(self) -> pl.Expr:
        out = self.condition()
        if self.peek().kind != "end":
            raise self.error("'and', 'or' or the end")
        return out

    def condition(self) -> pl.Expr:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UsageError(f"where: more than {_DEEPEST} parentheses inside each other")
        parts = [self.both()]
        while self.accept("or"):
            parts.append(self.both())
        self.depth -= 1
        # Side by side, not inside each other: polars takes minutes over hundreds of levels.
        return parts[0] if len(parts) == 1 else pl.any_horizontal(parts)

    def both(self) -> pl.Expr:
        parts = [self.one()]
        while self.accept("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else pl.all_horizontal(parts)

    def one(self) -> pl.Expr:
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
        self.expect("(")
        values = [self.value(column)]
        while self.accept(","):
            values.append(self.value(column))
        self.expect(")")
        self.warn_if_absent(column, values)
        return self.of(column).is_in(pl.Series(values).implode())

    def column(self) -> str:
        token = self.take("a column")
        known = self.frame.columns
        for name in (token.text, schema.ATTRIBUTE_PREFIX + token.text):
            if name in known:
                return name
        short = [name.removeprefix(schema.ATTRIBUTE_PREFIX) for name in known]
        raise UsageError(
            f"where: there is no column '{token.text}'{suggestion(token.text, short)}; there are {', '.join(short)}"
        )

    def of(self, column: str) -> pl.Expr:
        """The column as values are compared with it; NaN counts as missing."""
        return pl.col(column).fill_nan(None) if self.frame.schema[column].is_float() else pl.col(column)

    def literal(self) -> _Token:
        return self.take("a value")

    def value(self, column: str, *, ordered: bool = False) -> float | int | bool | str:
        """The next value, in the column's type; `ordered` when more or less is asked for."""
        token = self.literal()
        kind = self.frame.schema[column]
        if kind == pl.Boolean:
            if token.text.lower() not in ("true", "false"):
                raise UsageError(f"where: column {column} holds true or false, not '{token.text}'")
            return token.text.lower() == "true"
        if not kind.is_numeric():
            if ordered and token.kind == "word" and _NUMBER.fullmatch(token.text):
                raise UsageError(f"where: column {column} holds text; quote {token.text} to compare letter by letter")
            return token.text
        try:
            number = _number(token.text)
        except ValueError:
            moment = _moment(token.text) if column in _TIMES else None
            if moment is None:
                raise UsageError(f"where: column {column} holds numbers, and '{token.text}' is none") from None
            return moment
        return float(number) if kind.is_float() else number

    def warn_if_absent(self, column: str, values: list[float | int | bool | str]) -> None:
        """A misspelt value finds nothing, which looks like an answer: say so."""
        if self.frame.schema[column] != pl.String:
            return
        held = self.frame[column].unique().drop_nulls()
        for value in values:
            if not (held == value).any():
                some = suggestion(str(value), held.head(_LONGEST).sort().to_list())
                logger.warning("where: no product has %s = '%s'%s", column, value, some)

    def peek(self) -> _Token:
        return self.tokens[self.next]

    def accept(self, *words: str) -> bool:
        if not self.peek().is_(*words):
            return False
        self.next += 1
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.error(f"'{word}'")

    def take(self, what: str) -> _Token:
        token = self.peek()
        if token.kind not in ("quoted", "word") or token.is_(*_KEYWORDS):
            raise self.error(what)
        self.next += 1
        return token

    def error(self, wanted: str) -> UsageError:
        token = self.peek()
        found = f"'{token.text}'" if token.kind != "end" else "its end"
        return UsageError(
            f"where: expected {wanted} at character {token.at + 1}, found {found}: {_around(self.text, token.at)}"
        )


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise UsageError(
                f"where: cannot read {text[start]!r} at character {start + 1} (a quote left open?): "
                f"{_around(text, start)}"
            )
        kind = str(match.lastgroup)
        token = match.group(kind)
        if kind == "quoted":
            token = token[1:-1].replace(token[0] * 2, token[0])
        out.append(_Token(token, match.start(kind), kind))
        at = match.end()
    return [*out, _Token("", len(text), "end")]


def _around(text: str, at: int) -> str:
    """A condition as a message shows it: a long one only near the place."""
    start = max(0, at - _SHOWN // 2)
    part = text[start : start + _SHOWN]
    return f"{'...' if start else ''}{part}{'...' if start + _SHOWN < len(text) else ''}"


def _number(text: str) -> float | int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)  # float() would also take 'nan', 'inf' and '1_000'
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _moment(text: str) -> int | None:
    """UTC seconds of an ISO date or time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
