"""Read and validate labels of products for supervised fine-tuning, and encode them as classes.

In: a csv, jsonl or parquet file with `product_id` and one column for each label, or `product_id, attribute, value`.
Out: `Labels` by product row; rejected rows with their reasons, as in an ingest.
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
_MAX_VALUES: Final = 1000
_REASON_COLUMNS: Final = ("__code__", "__column__", "__cell__")

_Cells = list[tuple[str | None, str | None]]
Problem = tuple[str, str | None, str | None]
"""Code, column and cell of a rejected row."""


@dataclass(frozen=True)
class Labels:
    """K labels of some of n products.

    Attributes:
        names: names of the labels, ascending.
        values: values of each label, ascending, at least two.
        targets: (n, K) int64, index into the values of the label, -1 = not labelled.
    """

    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    targets: IntArray

    def __post_init__(self) -> None:
        self.targets.flags.writeable = False

    @property
    def rows(self) -> IntArray:
        """(l,) rows of the products with at least one label."""
        return np.flatnonzero((self.targets >= 0).any(1))

    @property
    def digest(self) -> str:
        """Hash of the labels: 16 hex digits."""
        text = "\x1e".join("\x1f".join((name, *classes)) for name, classes in zip(self.names, self.values, strict=True))
        return blake2b(text.encode() + self.targets.tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class LabelReadResult:
    """Result of reading a label file; `rows_in` = used + rejected.

    Attributes:
        labels: the labels with at least two values.
        rejected: (r, 7) schema.REJECTED_COLUMNS.
        source: name of the file in `rejected_rows`.
        counts: `rows_in`, `used`, `rejected` and the last by reason.
        warnings: problems that the user should check.
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
        ids: ids of the n products.
        settings: the allowed share of rejected rows.

    Raises:
        UsageError: the file is missing, unreadable, or lacks columns.
        DataContractError: it has no rows, too many rows are rejected, or no label has two values.
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
    validator = _LabelValidator(
        ids, schema.LABEL_VALUE if set(names) == _LONG else names[names[0] == schema.PRODUCT_ID]
    )
    problems = [validator.row(*row) for row in _iterate_rows(frame, names)]
    reason_frame = pl.DataFrame(
        {name: [problem and problem[i] for problem in problems] for i, name in enumerate(_REASON_COLUMNS)},
        schema=dict.fromkeys(_REASON_COLUMNS, pl.String),
    )
    bad = frame.hstack(reason_frame).filter(pl.col("__code__").is_not_null())
    rejected = rejects.rejected_rows(bad, source=raw.source, table=_TABLE)
    checks.raise_if_too_many_rejects(_TABLE, rejected, frame.height, source=raw.source, settings=settings)
    by_code = dict(rejected.group_by("code").len().sort("code").rows())
    counts = {"rows_in": frame.height, "used": frame.height - rejected.height, "rejected": rejected.height}
    warnings: list[str] = []
    if rejected.height:
        reasons = "; ".join(rejects.summary(rejected, decimal=settings.decimal))
        warnings.append(f"labels: {rejected.height:,} of {frame.height:,} rows of {raw.source} rejected: {reasons}")
    labels, constant = _encode_classes(validator.labels, len(ids), raw.source)
    warnings += [
        f"label '{name}' has the one value '{value}', so there is nothing to learn" for name, value in constant
    ]
    return LabelReadResult(labels, rejected, raw.source, {**counts, "rejected_by": by_code}, tuple(warnings))


def _iterate_rows(frame: pl.DataFrame, names: list[str]) -> Iterator[tuple[str | None, str | None, _Cells]]:
    """Return for each row the reason why it cannot be parsed, its product, and its labels (name and value)."""
    products, _ = parse.ids(frame[schema.PRODUCT_ID])
    others = [name for name in names if name != schema.PRODUCT_ID]
    columns = [parse.text(parse.ids(frame[name])[0].str.strip_chars()).to_list() for name in others]
    reasons = frame[files.BAD].to_list()
    if set(names) == _LONG:
        by_name = dict(zip(others, columns, strict=True))
        rows = zip(by_name[schema.ATTRIBUTE], by_name[schema.LABEL_VALUE], strict=True)
        labels = [[(name, value)] for name, value in rows]
    else:
        labels = [list(zip(others, row, strict=True)) for row in zip(*columns, strict=True)]
    return zip(reasons, products.to_list(), labels, strict=True)


@dataclass
class _LabelValidator:
    """Validates rows one by one and collects their labels.

    Attributes:
        ids: product ids.
        column: the column named in the reason of a row without a label.
        labels: the labels so far: name to product row to value.
    """

    ids: IdMap
    column: str
    labels: dict[str, dict[int, str]] = field(default_factory=dict)

    def row(self, parse_error: str | None, product: str | None, cells: _Cells) -> Problem | None:
        """Add the labels of a row, or return the problem of the row."""
        filled = [(name, value) for name, value in cells if name and value]
        product_row = int(self.ids.rows([product])[0]) if product else -1
        problem: Problem | None = None
        if parse_error is not None:
            problem = ("bad_row", None, parse_error)
        elif product is None:
            problem = ("missing_id", schema.PRODUCT_ID, None)
        elif product_row < 0:
            problem = ("unknown_product", schema.PRODUCT_ID, product)
        elif not filled:
            problem = ("missing_label", self.column, None)
        elif any(product_row in self.labels.get(name, {}) for name, _ in filled):
            problem = ("repeated_label", schema.PRODUCT_ID, product)
        else:
            problem = next((error for name, value in filled if (error := _find_text_problem(name, value))), None)
        if problem is None:
            for name, value in filled:
                self.labels.setdefault(name, {})[product_row] = value
        return problem


def _find_text_problem(name: str, value: str) -> Problem | None:
    """Return the problem of a text that the store rejects, if any."""
    for column, cell, limit in ((schema.ATTRIBUTE, name, "id"), (schema.LABEL_VALUE, value, "text")):
        if "\x00" in cell:
            return ("nul_in_text", column, cell)
        if len(cell) > rejects.LIMITS[limit]:
            return ("too_long", column, cell)
    return None


def _encode_classes(
    labels: Mapping[str, Mapping[int, str]], n: int, source: str
) -> tuple[Labels, list[tuple[str, str]]]:
    """Encode values as integers; also return the labels with a single value, which are dropped."""
    values = {name: tuple(sorted(set(by_row.values()))) for name, by_row in sorted(labels.items())}
    constant = [(name, classes[0]) for name, classes in values.items() if len(classes) == 1]
    for name, classes in values.items():
        if len(classes) > _MAX_VALUES:
            raise DataContractError(
                f"labels: '{name}' of {source} has {len(classes):,} different values, more than {_MAX_VALUES:,}; "
                "give a label that many products share"
            )
    values = {name: classes for name, classes in values.items() if len(classes) > 1}
    if not values:
        raise DataContractError(f"labels: no label of {source} has two different values, so there is nothing to learn")
    targets = np.full((n, len(values)), -1, np.int64)
    for column, (name, classes) in enumerate(values.items()):
        codes = {value: code for code, value in enumerate(classes)}
        for row, value in labels[name].items():
            targets[row, column] = codes[value]
    return Labels(tuple(values), tuple(values.values()), targets), constant
