"""Labels of some products, given by people to learn from: read, judged row by row, turned into classes.

In: a csv, jsonl or parquet file with `product_id` and a column a label, or with `product_id, attribute, value`.
Out: `Labels` by product row; rejected rows with their reasons, as an ingest has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from recsys.config import DataSettings
from recsys.data import file_readers as files
from recsys.data import parsing as parse
from recsys.data import rejected_rows as rejects
from recsys.data import schema
from recsys.data import validation as checks
from recsys.data.id_map import IdMap
from recsys.data.input_sources import SourceTable
from recsys.errors import DataContractError, UsageError
from recsys.types import IntArray

_TABLE: Final = "labels"
_LONG: Final = {schema.PRODUCT_ID, schema.ATTRIBUTE, schema.LABEL_VALUE}
_MOST_VALUES: Final = 1000
_VERDICT: Final = ("__code__", "__column__", "__cell__")

_Cells = list[tuple[str | None, str | None]]
Problem = tuple[str, str | None, str | None]
"""Code, column, cell of a row that cannot be used."""


@dataclass(frozen=True)
class Labels:
    """K labels of some of n products.

    Attributes:
        names: of the labels, ascending.
        values: of each label, ascending; two at least.
        targets: (n, K) int64, place of the value among the label's values, -1 = not labelled.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    targets: IntArray

    def __post_init__(self) -> None:
        self.targets.flags.writeable = False

    @property
    def rows(self) -> IntArray:
        """(l,) rows of the products with any label."""
        return np.flatnonzero((self.targets >= 0).any(1))

    @property
    def digest(self) -> str:
        """Names these labels of these products."""
        text = "\x1e".join("\x1f".join((name, *known)) for name, known in zip(self.names, self.values, strict=True))
        return blake2b(text.encode() + self.targets.tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class LabelReadResult:
    """What a file of labels came to; `rows_in` = used + rejected.

    Attributes:
        labels: those that can be learnt.
        rejected: (r, 7) schema.REJECTED_COLUMNS.
        source: name of the file in `rejected_rows`.
        counts: `rows_in`, `used`, `rejected` and the last by reason.
        warnings: what a person should look at.
    """

    labels: Labels
    rejected: pl.DataFrame
    source: str
    counts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


def read(path: Path, ids: IdMap, *, settings: DataSettings) -> LabelReadResult:
    """Read labels of products.

    Args:
        path: the file.
        ids: of the n products.
        settings: the share of rejects that is allowed.

    Raises:
        UsageError: the file is missing, unreadable, or lacks the columns.
        DataContractError: it has no rows, too many cannot be used, or no label is left to learn.
    """
    raw = SourceTable(_TABLE, f"{path.resolve().parent.name}/{path.name}", lambda: files.frames(path))
    frame = raw.frame()
    names = [name for name in frame.columns if name not in files.MARKS]
    if frame.height and (schema.PRODUCT_ID not in names or len(names) < 2):
        raise UsageError(
            f"{path}: labels need the column product_id and a column a label, or product_id, attribute, value; "
            f"it has {', '.join(names) or 'none'}"
        )
    if not frame.height:
        raise DataContractError(f"labels: {raw.source} holds no rows; check the export")
    long_names = [name for name in names if len(name) > rejects.LIMITS["id"]]
    if long_names:
        raise UsageError(f"{path}: the column name '{long_names[0][:40]}...' is longer than 255 characters; shorten it")
    judge = _LabelValidator(ids, schema.LABEL_VALUE if set(names) == _LONG else names[names[0] == schema.PRODUCT_ID])
    verdicts = [judge.row(*row) for row in _cells(frame, names)]
    marks = pl.DataFrame(
        {name: [verdict and verdict[at] for verdict in verdicts] for at, name in enumerate(_VERDICT)},
        schema=dict.fromkeys(_VERDICT, pl.String),
    )
    bad = frame.hstack(marks).filter(pl.col("__code__").is_not_null())
    rejected = rejects.rejected_rows(bad, source=raw.source, table=_TABLE)
    checks.raise_if_too_many_rejects(_TABLE, rejected, frame.height, source=raw.source, settings=settings)
    by_code = dict(rejected.group_by("code").len().sort("code").rows())
    counts = {"rows_in": frame.height, "used": frame.height - rejected.height, "rejected": rejected.height}
    warnings: list[str] = []
    if rejected.height:
        reasons = "; ".join(rejects.summary(rejected, decimal=settings.decimal))
        warnings.append(f"labels: {rejected.height:,} of {frame.height:,} rows of {raw.source} rejected: {reasons}")
    labels, alone = _classes(judge.found, len(ids), raw.source)
    warnings += [f"label '{name}' has the one value '{value}', so there is nothing to learn" for name, value in alone]
    return LabelReadResult(labels, rejected, raw.source, {**counts, "rejected_by": by_code}, tuple(warnings))


def _cells(frame: pl.DataFrame, names: list[str]) -> Iterator[tuple[str | None, str | None, _Cells]]:
    """Of each row why it cannot be read, its product, and its labels: name and value."""
    products, _ = parse.ids(frame[schema.PRODUCT_ID])
    others = [name for name in names if name != schema.PRODUCT_ID]
    columns = [parse.text(parse.ids(frame[name])[0].str.strip_chars()).to_list() for name in others]
    spoilt = frame[files.BAD].to_list()
    if set(names) == _LONG:
        where = dict(zip(others, columns, strict=True))
        rows = zip(where[schema.ATTRIBUTE], where[schema.LABEL_VALUE], strict=True)
        labels = [[(name, value)] for name, value in rows]
    else:
        labels = [list(zip(others, row, strict=True)) for row in zip(*columns, strict=True)]
    return zip(spoilt, products.to_list(), labels, strict=True)


@dataclass
class _LabelValidator:
    """Takes rows one by one.

    Attributes:
        ids: of the products.
        column: the one that is named when a row has no label.
        found: the labels so far: name to product row to value.
    """

    ids: IdMap
    column: str
    found: dict[str, dict[int, str]] = field(default_factory=dict)

    def row(self, spoilt: str | None, product: str | None, labels: _Cells) -> Problem | None:
        """Take a row, or say what is wrong with it."""
        given = [(name, value) for name, value in labels if name and value]
        at = int(self.ids.rows([product])[0]) if product else -1
        problem: Problem | None = None
        if spoilt is not None:
            problem = ("bad_row", None, spoilt)
        elif product is None:
            problem = ("missing_id", schema.PRODUCT_ID, None)
        elif at < 0:
            problem = ("unknown_product", schema.PRODUCT_ID, product)
        elif not given:
            problem = ("missing_label", self.column, None)
        elif any(at in self.found.get(name, {}) for name, _ in given):
            problem = ("repeated_label", schema.PRODUCT_ID, product)
        else:
            problem = next((found for name, value in given if (found := _unfit(name, value))), None)
        if problem is None:
            for name, value in given:
                self.found.setdefault(name, {})[at] = value
        return problem


def _unfit(name: str, value: str) -> Problem | None:
    """What a store would refuse."""
    for column, cell, limit in ((schema.ATTRIBUTE, name, "id"), (schema.LABEL_VALUE, value, "text")):
        if "\x00" in cell:
            return ("nul_in_text", column, cell)
        if len(cell) > rejects.LIMITS[limit]:
            return ("too_long", column, cell)
    return None


def _classes(found: Mapping[str, Mapping[int, str]], n: int, source: str) -> tuple[Labels, list[tuple[str, str]]]:
    """Values as numbers; and labels with a single value, which are left out."""
    values = {name: tuple(sorted(set(held.values()))) for name, held in sorted(found.items())}
    alone = [(name, known[0]) for name, known in values.items() if len(known) == 1]
    for name, known in values.items():
        if len(known) > _MOST_VALUES:
            raise DataContractError(
                f"labels: '{name}' of {source} has {len(known):,} different values, more than {_MOST_VALUES:,}; "
                "give a label that many products share"
            )
    values = {name: known for name, known in values.items() if len(known) > 1}
    if not values:
        raise DataContractError(f"labels: no label of {source} has two different values, so there is nothing to learn")
    targets = np.full((n, len(values)), -1, np.int64)
    for at, (name, known) in enumerate(values.items()):
        number = {value: place for place, value in enumerate(known)}
        for row, value in found[name].items():
            targets[row, at] = number[value]
    return Labels(tuple(values), tuple(values.values()), targets), alone
