"""Erased users, stored as hashes only: their rows are filtered out of every later ingest.

In: hashes, validated rows. Out: the rows of all other users; removed rows are counted as filtered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import polars as pl

from recsys.data import schema
from recsys.data.validation import ValidationResult

CODE: Final = "forgotten"
"""Reason in `filtered_by`."""

_PARTS: Final = re.compile(r"[,;|\t\"]")
"""Separators of cells in a line that could not be parsed."""


def user_hash(user_id: str) -> str:
    """Hash a user id for storage after erasure: 64 hexadecimal digits."""
    return sha256(f"recsys user {user_id}".encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class ErasedUsers:
    """The erased users.

    Attributes:
        hashes: hashes of their ids.
    """

    hashes: frozenset[str] = frozenset()

    def __contains__(self, user_id: str) -> bool:
        return user_hash(user_id) in self.hashes

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
        names_erased = [self.is_named_in(text) for text in rejected["row_json"].to_list()]
        null = pl.lit(None, pl.String)
        cells = [
            pl.when(pl.Series(names_erased)).then(null).otherwise(pl.col(name)).alias(name)
            for name in ("value_excerpt", "row_json")
        ]
        return rejected.with_columns(cells) if any(names_erased) else rejected

    def is_named_in(self, row_json: str | None) -> bool:
        """Return whether a rejected row contains the id of an erased user in any column."""
        return row_json is not None and any(text in self for text in _candidate_ids(row_json))


def _candidate_ids(row_json: str) -> Iterable[str]:
    """Yield every text of a rejected row that may be an id."""
    try:
        cells = json.loads(row_json)
    except ValueError:
        return
    for cell in cells.values() if isinstance(cells, dict) else ():
        text = str(cell)
        yield text
        yield from (part.strip() for part in _PARTS.split(text))
