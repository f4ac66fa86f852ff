"""Where a shop's rows come from: files and folders, its own database, frames of a Python program.

In: paths with a preset, SELECTs, or polars, pandas and pyarrow frames. Out: parts, one table of one source each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from recsys.data import file_readers as files
from recsys.data import schema
from recsys.data.presets import Preset, find, fitting
from recsys.errors import UsageError, suggestion

LOG = logging.getLogger(__name__)
TABLES: Final = ("products", "users", "events")
"""In the order in which they must be judged."""


@dataclass(frozen=True)
class SourceTable:
    """One table out of one source.

    Attributes:
        table: `products`, `users` or `events`.
        source: its name in messages and in `rejected_rows`.
        frames: opens the source and yields raw frames with canonical columns.
    """

    table: str
    source: str
    frames: Callable[[], Iterator[pl.DataFrame]] = field(repr=False)

    def frame(self) -> pl.DataFrame:
        """All rows at once; columns that change their type between batches become the wider one, or text."""
        frames = list(self.frames())
        try:
            return pl.concat(frames, how="diagonal_relaxed")
        except (pl.exceptions.SchemaError, pl.exceptions.InvalidOperationError):
            return pl.concat([_loosened(frame) for frame in frames], how="diagonal")


def _loosened(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data import parsing as parse

    return frame.with_columns(parse.text(frame[name]) for name in frame.columns if name not in files.MARKS)


def read_inputs(
    paths: Sequence[Path],
    *,
    preset: str | None = None,
    table: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> list[SourceTable]:
    """Find out what tables the files and folders hold; rows are read when a part's frames are asked for.

    Args:
        paths: files, or folders whose files are looked through (zips of pictures are left to `find_image_archives`).
        preset: name of the preset; None = canonical columns.
        table: what the files hold, where it cannot be told.
        mapping: canonical name to the file's name.

    Returns:
        Parts, products first, then users, then events.

    Raises:
        UsageError: a path is missing, a file does not fit the preset, or nothing was found in a folder.
    """
    shape = find(preset or "csv", mapping=_checked(mapping or {}))
    if table is not None and table not in schema.TABLES:
        raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES) or '; give products, events or users'}")
    parts: list[SourceTable] = []
    unused = set((mapping or {}).values())
    for path in paths:
        if path.is_dir():
            found = _of_folder(path, shape, table, unused)
        elif path.suffix.lower() == ".zip" and path.exists():
            continue
        else:
            found = _of_file(path, shape, table, unused)
        parts.extend(found)
    if unused and parts:
        old = min(unused)
        raise UsageError(f"--map names column {old!r}, which no file has; mend the name")
    return sorted(parts, key=lambda part: TABLES.index(part.table))


def _checked(mapping: Mapping[str, str]) -> Mapping[str, str]:
    known = sorted({column.name for columns in schema.TABLES.values() for column in columns})
    for new in mapping:
        if new not in known and not new.startswith(schema.ATTRIBUTE_PREFIX):
            raise UsageError(
                f"--map {new}=...: there is no canonical column {new!r}"
                f"{suggestion(new, known) or '; there are ' + ', '.join(known) + ' and attributes.NAME'}"
            )
    return mapping


def _of_folder(folder: Path, shape: Preset, table: str | None, unused: set[str]) -> list[SourceTable]:
    parts: list[SourceTable] = []
    strange: list[Path] = []
    inside = [path for path in sorted(folder.iterdir()) if path.is_file() and files.detect_format(path)]
    for path in inside:
        names = files.columns(path)
        if table is None and not shape.recognise(names, path.stem):
            strange.append(path)
            continue
        parts.extend(_of_file(path, shape, table, unused))
    if not parts and strange:
        raise _misfit(strange[0], files.columns(strange[0]), shape, table)
    if not parts and not find_image_archives([folder]):
        raise UsageError(f"{folder} holds no csv, tsv, jsonl or parquet file; give the folder of the tables")
    for path in strange:
        LOG.warning("%s is no table of preset %r and was left out", path, shape.name)
    return parts


def _of_file(path: Path, shape: Preset, table: str | None, unused: set[str]) -> list[SourceTable]:
    names = files.columns(path)
    unused.difference_update(names)
    tables = (table,) if table else shape.recognise(names, path.stem)
    if not tables or (table and not _has(names, shape, table)):
        raise _misfit(path, names, shape, table)
    source = f"{path.resolve().parent.name}/{path.name}"
    read_once = _Lines(path) if len(tables) > 1 else None
    return [SourceTable(each, source, _opener(path, shape, each, read_once)) for each in tables]


class _Lines:
    """The raw frames of a file that gives several tables, read once and kept until the last table took them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[pl.DataFrame] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """Raw frames, in the file's order."""
        if not self._held:
            self._held = list(files.frames(self._path))
        return iter(self._held)


def _opener(path: Path, shape: Preset, table: str, lines: _Lines | None) -> Callable[[], Iterator[pl.DataFrame]]:
    return lambda: shape.shape(lines.frames() if lines else files.frames(path), table)


def _has(names: Sequence[str], shape: Preset, table: str) -> bool:
    mapping: Mapping[str, str] = getattr(shape, "mapping", {})
    there = set(names) | {name.upper() for name in names} | {new for new, old in mapping.items() if old in names}
    return there.issuperset(shape.needs.get(table, ()))


def _misfit(path: Path, names: Sequence[str], shape: Preset, table: str | None) -> UsageError:
    """The error that says which columns are missing, and which preset would fit."""
    wanted = {table: shape.needs[table]} if table and table in shape.needs else shape.needs
    lacks = {each: [name for name in needs if name not in names] for each, needs in wanted.items()}
    # the table of which most is there; of none, the smallest of our own, and the most telling of a preset
    size = 1 if shape.name == "csv" else -1
    nearest = min(
        [each for each in lacks if lacks[each]] or list(lacks),
        key=lambda each: (len(lacks[each]) - len(wanted[each]), size * len(wanted[each])),
    )
    other = fitting(names, path.stem)
    if other and other != shape.name and not (table and shape.name == "csv" and not lacks[nearest]):
        remedy = f"these look like the columns of preset {other!r}: give --preset {other}"
    elif shape.name == "csv":
        remedy = f"rename with --map {(lacks[nearest] or ['product_id'])[0]}=COLUMN"
    else:
        remedy = "check the file, or leave --preset out and name the columns with --map"
    missing = ", ".join(lacks[nearest]) or "a name that tells what it holds (or --as)"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return UsageError(
        f"{path} does not fit preset {shape.name!r}: as {nearest} it lacks {missing}; it has {shown}; {remedy}"
    )


def find_image_archives(paths: Sequence[Path]) -> list[Path]:
    """Zips given as paths, and in folders `images*.zip` and the subfolder `images`."""
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            out.extend(sorted(path.glob("images*.zip")))
            if (path / "images").is_dir():
                out.append(path / "images")
        elif path.suffix.lower() == ".zip" and path.exists():
            out.append(path)
    return out


def _with_columns(frames: Iterator[pl.DataFrame], table: str, where: str) -> Iterator[pl.DataFrame]:
    """Check that the columns a table cannot do without are there."""
    for frame in frames:
        lacks = [column.name for column in schema.TABLES[table] if column.required and column.name not in frame.columns]
        if lacks:
            raise UsageError(f"{table}: {where} gives no column {lacks[0]}; name it so (SQL: AS {lacks[0]})")
        yield frame


def inputs_from_frames(tables: Mapping[str, Any]) -> list[SourceTable]:
    """Make parts of frames given from Python: table to polars, pandas or pyarrow frame.

    Raises:
        UsageError: no table of that name, or it is no frame.
    """
    parts = []
    for table in tables:
        if table not in schema.TABLES:
            raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES)}")
    for table in (each for each in TABLES if each in tables):
        raw = files.add_row_numbers(to_polars(tables[table]), start=1)
        shaped = list(find("csv").shape(_with_columns(iter([raw]), table, "the frame"), table))
        parts.append(SourceTable(table, f"python/{table}", lambda shaped=shaped: iter(shaped)))  # type: ignore[misc]
    return parts


def to_polars(anything: Any) -> pl.DataFrame:
    """Any frame as polars: polars, pandas, pyarrow, a dictionary of columns, a list of rows.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(anything, pl.DataFrame):
        return anything
    if isinstance(anything, pl.LazyFrame):
        return anything.collect()
    try:
        if hasattr(anything, "iloc"):
            return pl.from_pandas(anything)
        return pl.DataFrame(anything)
    except Exception as error:  # each library has its own errors for what it cannot convert
        said = str(error).partition("\n")[0]
        raise UsageError(
            f"{type(anything).__name__} cannot be read as a frame ({said}); give polars, pandas or pyarrow"
        ) from error
