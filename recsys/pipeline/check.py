"""The `check` command: counts, missing values and problems of the stored data.

In: an open project. Out: a result with one table per question.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import polars as pl

from recsys.data import schema
from recsys.db.engine import read_frame
from recsys.pipeline.project import Project
from recsys.pipeline.result import CommandResult, Table

_EQUAL_SHARE = 0.9
"""Share of equal texts from which on a text column tells products apart no more."""
_MIN_TEXTS = 20
_TAG = r"</?[a-zA-Z][^>]*>|&[a-zA-Z]+;"


def text_warnings(frame: pl.DataFrame) -> list[str]:
    """Return warnings about text columns that are mostly equal, or hold markup: they say little of the products."""
    warnings = []
    for name in (schema.TITLE, schema.DESCRIPTION):
        texts = frame[name].drop_nulls() if name in frame.columns else pl.Series(dtype=pl.String)
        if texts.len() < _MIN_TEXTS:
            continue
        value, number = texts.value_counts().sort("count", descending=True).row(0)
        if number >= _EQUAL_SHARE * texts.len():
            warnings.append(
                f"{number:,} of {texts.len():,} products have the same {name} ({value[:40]!r}); export the text of "
                "each product"
            )
        n_markup = int(texts.str.contains(_TAG).sum())
        if n_markup > len(texts) // 10:
            warnings.append(f"{n_markup:,} texts of column {name} hold markup; ingest the products again to remove it")
    return warnings


def check_data(project: Project) -> CommandResult:
    """Report counts, missing values, time span, rejects by reason, and the input of each part of the model."""
    dataset, settings = project.dataset, project.settings
    catalogue, interactions = dataset.catalogue, dataset.interactions
    n, counts = len(catalogue), dict(dataset.counts)
    missing = [
        (name, int(catalogue.frame[name].null_count()), round(catalogue.frame[name].null_count() / max(n, 1), 4))
        for name in catalogue.frame.columns
    ]
    events = read_frame(
        project.store.engine, "SELECT event_type, COUNT(*) AS events FROM events GROUP BY event_type ORDER BY 1"
    )
    rejects = read_frame(
        project.store.engine,
        "SELECT source, table_name, code, COUNT(*) AS rejected FROM rejected_rows "
        "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3",
    )
    text = [name for name in settings.encoder.text_columns if name in catalogue.frame.columns]
    with_text = catalogue.frame.select(text).filter(~pl.all_horizontal(pl.col(text).is_null())).height if text else 0
    users_with_pairs = int((np.diff(interactions.starts) >= 2).sum())
    parts = [
        ("text", f"{with_text:,} of {n:,} products have {' or '.join(text) or 'no text column'}"),
        ("picture", f"{counts['products_with_picture']:,} of {n:,} products have a picture"),
        ("co_purchase, next_item", f"{users_with_pairs:,} of {len(dataset.users):,} users have two events or more"),
        ("recommend", f"{counts['products_sellable']:,} products may be recommended to {len(dataset.users):,} users"),
        (
            "without history",
            f"{len(dataset.users) - counts['users_with_events']:,} users get the list of '__default__'",
        ),
    ]
    parts += [(part, text) for part, number, text in _event_meanings(counts) if number]
    warnings = []
    if counts["events_with_outlying_time"]:
        warnings.append(
            f"{counts['events_with_outlying_time']:,} events lie far from all others in time and are left out; correct "
            "their times and ingest them again"
        )
    if not n:
        warnings.append("the catalogue is empty; run 'recsys ingest' with products")
    if not len(interactions):
        warnings.append("there are no events; run 'recsys ingest' with events")
    duplicates = n - catalogue.frame.select(text).unique().height if text else 0
    if duplicates > n // 10:
        warnings.append(f"{duplicates:,} products share title and description with another one")
    warnings += text_warnings(catalogue.frame)
    repeated = int(read_frame(project.store.engine, "SELECT COUNT(*) AS n FROM events WHERE line_no > 0")["n"][0])
    counts["repeated_events"] = repeated
    if repeated * 10 > len(interactions):
        warnings.append(
            f"{repeated:,} events equal another one in user, product, time, type and order; if an export repeated "
            "rows, ingest it again without them and with --replace events"
        )
    for name in ("first_event", "last_event"):
        counts[name] = None if counts[name] is None else datetime.fromtimestamp(counts[name], UTC).isoformat()
    return CommandResult(
        "check",
        counts=counts,
        warnings=warnings,
        tables=[
            Table("what the models get", ("part", "gets"), parts),
            Table("missing values", ("column", "missing", "share"), missing),
            Table.from_frame("events", events),
            Table.from_frame("rejected rows", rejects),
        ],
    )


def _event_meanings(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return part, number of events concerned, and description of what is left out or reduced."""
    cancelled, reduced = counts["purchases_returned"], counts["purchases_returned_in_part"]
    return [
        (
            "returns",
            counts["returns"],
            f"{counts['returns']:,} returns cancel {cancelled:,} purchases and reduce {reduced:,}; "
            f"{counts['returns_without_purchase']:,} of them find no purchase",
        ),
        ("ratings", counts["ratings_not_positive"], f"{counts['ratings_not_positive']:,} low ratings are left out"),
        (
            "event weights",
            counts["events_without_weight"],
            f"{counts['events_without_weight']:,} events of types with weight 0 are left out",
        ),
    ]
