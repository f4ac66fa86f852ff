"""Numbers that were measured, as plain frozen data: tables, figures with intervals, the last evaluation, curves.

In: numbers and names. Out: parts of `Content`.
"""

from __future__ import annotations

from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: what it is.
        columns: names.
        rows: one tuple a row, as long as `columns`.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """One measured number with its 95 % interval."""

    system: str
    slice: str
    metric: str
    value: float
    low: float
    high: float
    users: int


@dataclass(frozen=True)
class Pair:
    """Ours less another system, over the same users."""

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
        at: when, UTC seconds.
        said: its verdict.
        ours: the name of our system in it, empty where it was left out.
        how: what was held back, in words.
        k: length of the lists.
        users: test users.
        same_data: it was made from today's data.
        same_settings: and with today's settings.
        figures: all of them.
        pairs: ours against each other one.
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
    """A number over the steps of a training; `stage` names the part that was trained."""

    stage: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Training:
    """How the encoder in use was trained.

    Attributes:
        curves: from its journal, empty where that is gone.
        last: smoothed numbers at the end.
        ranker: what is worth knowing of the ranker.
    """

    curves: tuple[Curve, ...]
    last: Grid
    ranker: Grid
