"""Measured values as frozen dataclasses: tables, metrics with intervals, evaluation, learning curves.

In: numbers and names. Out: parts of `ReportContent`.
"""

from __future__ import annotations

from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: caption.
        columns: names.
        rows: one tuple per row, as long as `columns`.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A metric value with its 95 % interval."""

    system: str
    slice: str
    metric: str
    value: float
    low: float
    high: float
    users: int


@dataclass(frozen=True)
class Pair:
    """The difference between the recommender and another system over the same users."""

    slice: str
    metric: str
    system: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    users: int


@dataclass(frozen=True)
class Evaluation:
    """The last offline evaluation.

    Attributes:
        at: its time, UTC seconds.
        said: its summary sentence.
        ours: the name of the recommender in it, empty if it was left out.
        how: description of the split.
        k: length of the lists.
        users: test users.
        same_data: the data has not changed since.
        same_settings: the settings have not changed since.
        figures: all metric values.
        pairs: the recommender against each other system.
    """

    at: int
    said: str
    ours: str
    how: str
    k: int
    users: int
    same_data: bool
    same_settings: bool
    figures: tuple[Figure, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Curve:
    """A value over the training steps; `stage` names the trained part."""

    stage: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Training:
    """The training of the encoder in use.

    Attributes:
        curves: from its metric log, empty if the log was deleted.
        last: smoothed values at the end.
        ranker: facts about the ranker.
    """

    curves: tuple[Curve, ...]
    last: Grid
    ranker: Grid
