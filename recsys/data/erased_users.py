"""Erased users, stored as hashes only: their rows are filtered out of every later ingest.

In: hashes, validated rows. Out: the rows of all other users; removed rows are counted as filtered.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import unquote

import polars as pl

from recsys.data import schema
from recsys.data.validation import ValidationResult

CODE: Final = "forgotten"
"""Reason in `filtered_by`."""

_PIECES: Final = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+|[\s\S]")
"""A word (letters, digits, accents), or one other character: an id in a text begins and ends between two of them."""
_MAX_PIECES: Final = 16
"""Most pieces of an id that is looked for inside a text: an e-mail address has about 7, a UUID 9."""
_MAX_ID: Final = 255
_CACHED_TEXTS: Final = 20_000
_CACHED_WORDS: Final = 200_000
_JSON_ESCAPE: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)
_CONTROL: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_NUMBER_STARTS: Final = frozenset("+-0123456789")
_NUMBER_PIECES: Final = 5
_MAX_FORMS: Final = 12
"""Most ways in which one text is read: as it is, and with one or several kinds of escapes decoded."""


def user_hash(user_id: str) -> str:
    """Hash a user id for storage after erasure: 64 hexadecimal digits."""
    return _digest(user_id).hex()


def _digest(user_id: str) -> bytes:
    return sha256(b"recsys user " + user_id.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class ErasedUsers:
    """The erased users.

    Attributes:
        hashes: hashes of their ids.
        ids: the ids themselves, known only while they are erased.
    """

    hashes: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()

    def __contains__(self, user_id: str | None) -> bool:
        return user_id is not None and user_hash(user_id) in self.hashes

    def filter_events(self, checked: ValidationResult) -> ValidationResult:
        """Remove the rows of these users; of their rejected rows only the reason is kept."""
        if not self.hashes:
            return checked
        rejected = self.blank_rejected(checked.rejected)
        if schema.USER_ID not in checked.accepted.columns:
            return replace(checked, rejected=rejected)
        ids = checked.accepted[schema.USER_ID]
        erased = [user_id for user_id in ids.unique().to_list() if user_id in self]
        if not erased:
            return replace(checked, rejected=rejected)
        remaining = checked.accepted.filter(~pl.col(schema.USER_ID).is_in(erased))
        filtered = {**checked.filtered, CODE: checked.accepted.height - remaining.height}
        return replace(checked, accepted=remaining, rejected=rejected, filtered=filtered)

    def blank_rejected(self, rejected: pl.DataFrame) -> pl.DataFrame:
        """Blank the content of rejected rows that name an erased user; the reason is kept."""
        if not self.hashes or not rejected.height:
            return rejected
        contents = rejected.select("row_json", "value_excerpt").iter_rows()
        names_erased = [self.is_named_in(row_json, excerpt) for row_json, excerpt in contents]
        null = pl.lit(None, pl.String)
        cells = [
            pl.when(pl.Series(names_erased)).then(null).otherwise(pl.col(name)).alias(name)
            for name in ("value_excerpt", "row_json")
        ]
        return rejected.with_columns(cells) if any(names_erased) else rejected

    def is_named_in(self, row_json: str | None, excerpt: str | None = None) -> bool:
        """Return whether a rejected row contains the id of an erased user.

        An id is found as a cell or a JSON number, and as a whole word of a longer text such as the raw line, also with
        escapes of JSON, CSV, HTML or URLs; `u1` is not found in `u12`.

        Args:
            row_json: the row, or its raw line, as JSON.
            excerpt: its offending cell.
        """
        texts = [] if excerpt is None else [excerpt]
        if row_json is not None:
            texts += _row_texts(row_json)
        return any(self._is_named_in_text(text) for text in texts)

    @cached_property
    def _is_named_in_text(self) -> Callable[[str], bool]:
        """Search of one text; many rows share cells such as the type of an event."""
        return lru_cache(_CACHED_TEXTS)(self._search_text)

    @cached_property
    def _is_erased(self) -> Callable[[str], bool]:
        """Test of one id; rows share many words, and a look-up is faster than a hash."""
        digests = frozenset(map(bytes.fromhex, self.hashes))
        return lru_cache(_CACHED_WORDS)(lambda user_id: _digest(user_id) in digests)

    @cached_property
    def _long_ids(self) -> list[str]:
        """The ids that have too many pieces to be found by their hashes."""
        return [user_id for user_id in self.ids if len(_PIECES.findall(user_id)) > _MAX_PIECES]

    def _search_text(self, text: str) -> bool:
        return any(self._search_form(form) for form in _decoded_forms(text))

    def _search_form(self, text: str) -> bool:
        """Search a text for ids as it is."""
        whole = text.strip()
        if whole in self or _as_whole_number(whole) in self:
            return True
        pieces = [piece.span() for piece in _PIECES.finditer(text)]
        is_erased = self._is_erased
        spaces = [text[start].isspace() for start, _ in pieces]
        for first, (start, _) in enumerate(pieces):
            if spaces[first]:
                continue  # an id does not begin or end with a space
            is_number_like = text[start] in _NUMBER_STARTS
            for last in range(first, min(first + _MAX_PIECES, len(pieces))):
                end = pieces[last][1]
                if end - start > _MAX_ID:
                    break
                if spaces[last]:
                    continue
                candidate = text[start:end]
                if is_erased(candidate):
                    return True
                if is_number_like and last - first <= _NUMBER_PIECES and _as_whole_number(candidate) in self:
                    return True
        return any(_has_word(text, user_id) for user_id in self._long_ids)


def _row_texts(row_json: str) -> list[str]:
    """Return all texts and numbers of a rejected row, as they are written."""
    try:
        row = json.loads(row_json, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return [row_json]
    texts: list[str] = []
    nodes: list[object] = list(row.values()) if isinstance(row, dict) else [row]  # without the names of columns
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            nodes += [*node, *node.values()]
        elif isinstance(node, list):
            nodes += node
        elif isinstance(node, str):
            texts.append(node)
    return texts


def _decoded_forms(text: str) -> list[str]:
    """Return a text as it is and with escapes decoded, also escapes inside escapes."""
    forms = [text]
    for form in forms:
        decoded = []
        if "\\" in form:
            decoded.append(_decode_json(form))
        if "&" in form:
            decoded.append(html.unescape(form))
        if "%" in form:
            decoded.append(unquote(form))
        if '""' in form:
            decoded.append(form.replace('""', '"'))
        if "''" in form:
            decoded.append(form.replace("''", "'"))
        forms += [each for each in dict.fromkeys(decoded) if each not in forms][: _MAX_FORMS - len(forms)]
    return forms


def _decode_json(text: str) -> str:
    r"""Decode the escapes of JSON, such as `\u00e9` and `\"`, anywhere in a text."""

    def decode(match: re.Match[str]) -> str:
        escape = match.group()
        if escape[1] == "u" and len(escape) >= 6:
            units = bytes.fromhex(escape.replace("\\u", ""))
            return units.decode("utf-16-be", "replace")
        return _CONTROL.get(escape[1], escape[1])

    return _JSON_ESCAPE.sub(decode, text)


def _as_whole_number(text: str) -> str | None:
    """Return `123` for the texts `123.0`, `123.` and `1.23e2`; None for another text."""
    if not _WHOLE_NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    return str(int(number)) if number == number.to_integral_value() else None


def _has_word(text: str, word: str) -> bool:
    """Return whether a text contains a word that is not part of a longer one."""
    if word not in text:
        return False
    bounds = {0, *(piece.end() for piece in _PIECES.finditer(text))}
    start = text.find(word)
    while start >= 0:
        if start in bounds and start + len(word) in bounds:
            return True
        start = text.find(word, start + 1)
    return False
