"""How tables from elsewhere become the canonical ones: one preset a file, found here by name.

In: the name given to `--preset`, or none. Out: the preset that shapes raw frames into canonical columns.
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
    """One way shops' tables look.

    Attributes:
        name: as given to `--preset`.
        needs: for each canonical table, the columns a file must have to give it.
    """

    @property
    def name(self) -> str:
        """As given to `--preset`."""
        ...

    @property
    def needs(self) -> Mapping[str, Sequence[str]]:
        """For each canonical table, the columns a file must have to give it."""
        ...

    def recognise(self, columns: Sequence[str], stem: str) -> tuple[str, ...]:
        """The canonical tables a file with these columns and this name gives; () = not a file of this preset."""
        ...

    def shape(self, frames: Iterator[pl.DataFrame], table: str) -> Iterator[pl.DataFrame]:
        """Turn raw frames (with files.MARKS) into canonical columns, cells still unparsed."""
        ...


NAMES: Final = ("csv", "jsonl", "parquet", "hm", "personalize", "online-retail")
"""What `--preset` takes; the first three are the canonical columns in any kind of file."""


def find(name: str, *, mapping: Mapping[str, str] | None = None) -> Preset:
    """Return the preset of a name; `mapping` (canonical name: the file's name) goes with canonical columns only.

    Raises:
        UsageError: no such preset, or a mapping for a preset that has its own.
    """
    key = name.strip().lower().replace("_", "-")
    if key in {"canonical", "csv", "tsv", "jsonl", "parquet"}:
        return Canonical(dict(mapping or {}))
    if key not in NAMES:
        raise UsageError(f"no preset {name!r}{suggestion(key, NAMES) or '; there are ' + ', '.join(NAMES)}")
    if mapping:
        raise UsageError(f"--map goes with canonical columns; preset {key!r} knows its own, leave one of the two out")
    own: dict[str, Preset] = {"hm": HM(), "personalize": Personalize(), "online-retail": OnlineRetail()}
    return own[key]


def fitting(columns: Sequence[str], stem: str) -> str | None:
    """Name of the preset that would know a file with these columns, if any."""
    presets: tuple[Preset, ...] = (HM(), Personalize(), OnlineRetail(), Canonical({}))
    for preset in presets:
        if preset.recognise(columns, stem):
            return preset.name
    return None
