"""Row counts and messages of one table that is read in batches; every row is counted once.

In: validated batches. Out: counts as reported by an ingest, warnings, notes, an error if too many rows are rejected.
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
    """Return counts of zero."""
    return {"rows_in": 0, "used": 0, "rejected": 0, "filtered": 0, "rejected_by": {}, "filtered_by": {}}


class RowCounts:
    """Counts of one table of one source; `rows_in == used + rejected + filtered` after every batch.

    Attributes:
        counts: the counts as reported by an ingest.
    """

    def __init__(self, table: str, source: str, settings: DataSettings) -> None:
        self.table, self.source, self._settings = table, source, settings
        self.counts = no_counts()
        self._facts = Assumptions()
        self._examples: dict[str, Mapping[str, Any]] = {}

    def start_from(self, counts: Mapping[str, Any]) -> Self:
        """Start with the counts from before an interruption."""
        self.counts = no_counts() | deepcopy(dict(counts))
        return self

    def add(self, checked: ValidationResult) -> None:
        """Add a batch."""
        codes = dict(checked.rejected.group_by("code").len().sort("code").rows())
        _add_counts(self.counts, checked.rows_in, codes, checked.filtered)
        self._facts.update(checked.assumptions)
        for row in checked.rejected.unique("code", keep="first", maintain_order=True).iter_rows(named=True):
            self._examples.setdefault(row["code"], row)

    def counts_before(self, checked: ValidationResult, *, before: int) -> Counts:
        """Return the counts as if only the rows of a batch numbered below `before` had been added."""
        counts = deepcopy(self.counts)
        earlier = checked.rejected.filter(checked.rejected["row_no"] < before)
        codes = dict(earlier.group_by("code").len().sort("code").rows())
        _add_counts(counts, before - counts["rows_in"] - 1, codes, {})
        return counts

    def raise_if_too_many_rejects(self) -> None:
        """Check the share of rejected rows.

        Raises:
            DataContractError: more rows are rejected than allowed.
        """
        rejected, rows_in = self.counts["rejected"], self.counts["rows_in"]
        if checks.exceeds_max_bad_fraction(rejected, rows_in, self._settings):
            raise checks.too_many_rejects_error(
                self.table, rejected, rows_in, source=self.source, settings=self._settings, reasons=self._reasons()
            )

    def messages(self) -> tuple[list[str], list[str]]:
        """Return notes and warnings."""
        notes, warnings = assumption_messages(self.table, self._facts)
        if self.counts["rejected"]:
            warnings.append(
                f"{self.table}: {self.counts['rejected']:,} of {self.counts['rows_in']:,} rows of {self.source} "
                f"rejected: {'; '.join(self._reasons())}"
            )
        return notes, warnings

    def _reasons(self, limit: int = 3) -> list[str]:
        counted = sorted(self.counts["rejected_by"].items(), key=lambda item: (item[1], item[0]), reverse=True)
        reasons = []
        for code, number in counted[:limit]:
            example = self._examples.get(code)  # none if all were found before an interruption
            suffix = f", e.g. {rejects.message(example, decimal=self._settings.decimal)}" if example else ""
            reasons.append(f"{code} {number:,}{suffix}")
        return reasons


def _add_counts(counts: Counts, rows_in: int, rejected: Mapping[str, int], filtered: Mapping[str, int]) -> None:
    n_rejected, n_filtered = sum(rejected.values()), sum(filtered.values())
    for name, number in (
        ("rows_in", rows_in),
        ("used", rows_in - n_rejected - n_filtered),
        ("rejected", n_rejected),
        ("filtered", n_filtered),
    ):
        counts[name] += number
    for name, codes in (("rejected_by", rejected), ("filtered_by", filtered)):
        for code, number in codes.items():
            counts[name][code] = counts[name].get(code, 0) + number
