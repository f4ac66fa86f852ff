"""Users who asked to be forgotten: known by a hash alone, left out of whatever comes in again.

In: hashes, judged rows. Out: the rows of all other users; what was left out is counted as filtered.
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
"""Why a row was left out, as `filtered_by` says it."""

_PARTS: Final = re.compile(r"[,;|\t\"]")
"""What stands between the cells of a line that could not be read."""


def user_hash(user_id: str) -> str:
    """What is kept of a forgotten user: 64 hexadecimal digits."""
    return sha256(f"recsys user {user_id}".encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class ErasedUsers:
    """The users who were forgotten.

    Attributes:
        hashes: of their ids.
    """

    hashes: frozenset[str] = frozenset()

    def __contains__(self, user_id: str) -> bool:
        return user_hash(user_id) in self.hashes

    def filter_events(self, checked: ValidationResult) -> ValidationResult:
        """The same without these users; of their rejected rows only the reason stays."""
        if not self.hashes:
            return checked
        rejected = self.blank_rejected(checked.rejected)
        if schema.USER_ID not in checked.accepted.columns:
            return replace(checked, rejected=rejected)
        ids = checked.accepted[schema.USER_ID]
        gone = [one for one in ids.unique().to_list() if one in self]
        if not gone:
            return replace(checked, rejected=rejected)
        kept = checked.accepted.filter(~pl.col(schema.USER_ID).is_in(gone))
        filtered = {**checked.filtered, CODE: checked.accepted.height - kept.height}
        return replace(checked, accepted=kept, rejected=rejected, filtered=filtered)

    def blank_rejected(self, rejected: pl.DataFrame) -> pl.DataFrame:
        """Rejected rows; those that name one of these users say nothing but why they were rejected."""
        if not self.hashes or not rejected.height:
            return rejected
        named = [self.is_named_in(text) for text in rejected["row_json"].to_list()]
        nothing = pl.lit(None, pl.String)
        cells = [
            pl.when(pl.Series(named)).then(nothing).otherwise(pl.col(name)).alias(name)
            for name in ("value_excerpt", "row_json")
        ]
        return rejected.with_columns(cells) if any(named) else rejected

    def is_named_in(self, row_json: str | None) -> bool:
        """Whether a rejected row names one of these users, in whatever column."""
        return row_json is not None and any(text in self for text in _texts(row_json))


def _texts(row_json: str) -> Iterable[str]:
    """Everything in a rejected row that could be an id."""
    try:
        cells = json.loads(row_json)
    except ValueError:
        return
    for cell in cells.values() if isinstance(cells, dict) else ():
        text = str(cell)
        yield text
        yield from (part.strip() for part in _PARTS.split(text))
