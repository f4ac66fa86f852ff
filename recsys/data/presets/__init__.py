"""Registry of presets, which convert tables of other systems to the canonical ones; one module for each.

In: the name given to `--preset`, or none. Out: the preset that converts raw frames to canonical columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import polars as pl

from recsys.data.presets.canonical import Canonical
from recsys.data.presets.hm import HM
from recsys.data.presets.online_retail import OnlineRetail
from recsys.data.presets.personalize import Personalize
from recsys.errors import UsageError, suggestion


class Preset(Protocol):
    """A known layout of input tables.

    Attributes:
        name: the name for `--preset`.
        needs: canonical table to the columns that a file needs for it.
    """

    @property
    def name(self) -> str:
        """The name for `--preset`."""
        ...

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """Canonical table to the columns that a file needs for it."""
        ...

    def recognise(self, columns: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
        """Return the canonical tables in a file with these columns and names; () = no file of this preset.

        Args:
            columns: column names.
            parts: file name without suffix, and the names of its folders, the nearest first.
        """
        ...

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Convert raw frames (with files.MARKS) to canonical columns; cells are not parsed yet."""
        ...


NAMES: Final = ("csv", "jsonl", "parquet", "hm", "personalize", "online-retail")
"""Values of `--preset`; the first three are the canonical columns in any file format."""


def get_preset(name: str, *, mapping: Mapping[str, str] | None = None, decimal: str = ".") -> Preset:
    """Return the preset of a name; `mapping` (canonical name to name in the file) is for canonical columns only.

    Raises:
        UsageError: the preset is unknown, or has a mapping of its own.
    """
    key = name.strip().lower().replace("_", "-")
    if key in {"canonical", "csv", "tsv", "jsonl", "parquet"}:
        return Canonical(dict(mapping or {}))
    if key not in NAMES:
        raise UsageError(f"no preset {name!r}{suggestion(key, NAMES) or '; there are ' + ', '.join(NAMES)}")
    if mapping:
        raise UsageError(f"--map goes with canonical columns; preset {key!r} knows its own, leave one of the two out")
    presets: dict[str, Preset] = {"hm": HM(), "personalize": Personalize(), "online-retail": OnlineRetail(decimal)}
    return presets[key]


def guess_preset(columns: Sequence[str], parts: Sequence[str], table: str | None = None) -> str | None:
    """Return the name of a preset that recognises a file with these columns, and the table in it, if any."""
    presets: tuple[Preset, ...] = (HM(), Personalize(), OnlineRetail(), Canonical({}))
    for preset in presets:
        tables = preset.recognise(columns, parts)
        if tables and (table is None or table in tables):
            return preset.name
    return None
