"""The account of one table that is read in batches: every row counted once, and what to say about them.

In: judged batches. Out: counts as an ingest reports them, warnings, notes, the refusal when too much is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Self

from recsys.config import DataSettings
from recsys.data import rejected_rows as rejects
from recsys.data import validation as checks
from recsys.data.assumptions import Assumptions, assumption_messages
from recsys.data.validation import ValidationResult

Counts = dict[str, Any]


def no_counts() -> Counts:
    """Nothing counted yet."""
    return {"rows_in": 0, "used": 0, "rejected": 0, "filtered": 0, "rejected_by": {}, "filtered_by": {}}


class RowCounts:
    """Counts of one table of one source; `rows_in == used + rejected + filtered` after every batch.

    Attributes:
        counts: as an ingest reports them.
    """

    def __init__(self, table: str, source: str, settings: DataSettings) -> None:
        self.table, self.source, self._settings = table, source, settings
        self.counts = no_counts()
        self._facts = Assumptions()
        self._examples: dict[str, Mapping[str, Any]] = {}

    def counting(self, counts: Mapping[str, Any]) -> Self:
        """Begin with what was counted before an interruption."""
        self.counts = no_counts() | deepcopy(dict(counts))
        return self

    def take(self, checked: ValidationResult) -> None:
        """Enter one batch."""
        codes = dict(checked.rejected.group_by("code").len().sort("code").rows())
        _add(self.counts, checked.rows_in, codes, checked.filtered)
        self._facts.update(checked.facts)
        for row in checked.rejected.unique("code", keep="first", maintain_order=True).iter_rows(named=True):
            self._examples.setdefault(row["code"], row)

    def with_first(self, checked: ValidationResult, *, before: int) -> Counts:
        """The counts as if only the rows of a batch that are numbered below `before` had been entered."""
        counts = deepcopy(self.counts)
        early = checked.rejected.filter(checked.rejected["row_no"] < before)
        codes = dict(early.group_by("code").len().sort("code").rows())
        _add(counts, before - counts["rows_in"] - 1, codes, {})
        return counts

    def enforce(self) -> None:
        """Refuse the source when more rows are rejected than allowed.

        Raises:
            DataContractError: they are.
        """
        rejected, rows_in = self.counts["rejected"], self.counts["rows_in"]
        if checks.too_many(rejected, rows_in, self._settings):
            raise checks.refusal(
                self.table, rejected, rows_in, source=self.source, settings=self._settings, reasons=self._reasons()
            )

    def messages(self) -> tuple[list[str], list[str]]:
        """Notes and warnings."""
        notes, warnings = assumption_messages(self.table, self._facts)
        if self.counts["rejected"]:
            warnings.append(
                f"{self.table}: {self.counts['rejected']:,} of {self.counts['rows_in']:,} rows of {self.source} "
                f"rejected: {'; '.join(self._reasons())}"
            )
        return notes, warnings

    def _reasons(self, most: int = 3) -> list[str]:
        found = sorted(self.counts["rejected_by"].items(), key=lambda each: (each[1], each[0]), reverse=True)
        out = []
        for code, number in found[:most]:
            example = self._examples.get(code)  # none where all were met before an interruption
            told = f", e.g. {rejects.message(example, decimal=self._settings.decimal)}" if example else ""
            out.append(f"{code} {number:,}{told}")
        return out


def _add(counts: Counts, rows_in: int, rejected: Mapping[str, int], filtered: Mapping[str, int]) -> None:
    bad, left = sum(rejected.values()), sum(filtered.values())
    for name, number in (
        ("rows_in", rows_in),
        ("used", rows_in - bad - left),
        ("rejected", bad),
        ("filtered", left),
    ):
        counts[name] += number
    for name, codes in (("rejected_by", rejected), ("filtered_by", filtered)):
        for code, number in codes.items():
            counts[name][code] = counts[name].get(code, 0) + number
