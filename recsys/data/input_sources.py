"""Input sources of an ingest: files and folders, or frames of a Python program.

In: paths with a preset, or polars, pandas and pyarrow frames. Out: `SourceTable`s, one table of one source each.
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
from recsys.data.presets import Preset, get_preset, guess_preset
from recsys.errors import UsageError, suggestion

LOG = logging.getLogger(__name__)
TABLES: Final = ("products", "users", "events")
"""In the order in which they are validated."""


@dataclass(frozen=True)
class SourceTable:
    """One table of one source.

    Attributes:
        table: `products`, `users` or `events`.
        source: its name in messages and in `rejected_rows`.
        frames: opens the source and yields raw frames with canonical columns.
    """

    table: str
    source: str
    frames: Callable[[], Iterator[pl.DataFrame]] = field(repr=False)

    def frame(self) -> pl.DataFrame:
        """Return all rows; a column whose type differs between batches gets the wider type, or text."""
        frames = list(self.frames())
        try:
            return pl.concat(frames, how="diagonal_relaxed")
        except (pl.exceptions.SchemaError, pl.exceptions.InvalidOperationError):
            return pl.concat([_cast_to_text(frame) for frame in frames], how="diagonal")


def _cast_to_text(frame: pl.DataFrame) -> pl.DataFrame:
    from recsys.data import parsing as parse

    return frame.with_columns(parse.text(frame[name]) for name in frame.columns if name not in files.MARKS)


def read_inputs(
    paths: Sequence[Path],
    *,
    preset: str | None = None,
    table: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> list[SourceTable]:
    """Detect the tables in files and folders; rows are read when the frames are iterated.

    Args:
        paths: files, or folders whose files are read (zips of images are left to `find_image_archives`).
        preset: name of the preset; None = canonical columns.
        table: the table in the files, if it cannot be detected.
        mapping: canonical column name to name in the file.

    Returns:
        Source tables: products, then users, then events.

    Raises:
        UsageError: a path is missing, a file does not fit the preset, or a folder has no table.
    """
    format_ = get_preset(preset or "csv", mapping=_validate_mapping(mapping or {}))
    if table is not None and table not in schema.TABLES:
        raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES) or '; give products, events or users'}")
    parts: list[SourceTable] = []
    unused = set((mapping or {}).values())
    for path in paths:
        if path.is_dir():
            tables = _detect_in_folder(path, format_, table, unused)
        elif path.suffix.lower() == ".zip" and path.exists():
            continue
        else:
            tables = _detect_in_file(path, format_, table, unused)
        parts.extend(tables)
    if unused and parts:
        name = min(unused)
        raise UsageError(f"--map names column {name!r}, which no file has; mend the name")
    return sorted(parts, key=lambda part: TABLES.index(part.table))


def _validate_mapping(mapping: Mapping[str, str]) -> Mapping[str, str]:
    canonical = sorted({column.name for columns in schema.TABLES.values() for column in columns})
    for new in mapping:
        if new not in canonical and not new.startswith(schema.ATTRIBUTE_PREFIX):
            raise UsageError(
                f"--map {new}=...: there is no canonical column {new!r}"
                f"{suggestion(new, canonical) or '; there are ' + ', '.join(canonical) + ' and attributes.NAME'}"
            )
    return mapping


def _detect_in_folder(folder: Path, preset: Preset, table: str | None, unused: set[str]) -> list[SourceTable]:
    parts: list[SourceTable] = []
    unrecognised: list[Path] = []
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and files.detect_format(path)]
    for path in paths:
        names = files.columns(path)
        if table is None and not preset.recognise(names, path.stem):
            unrecognised.append(path)
            continue
        parts.extend(_detect_in_file(path, preset, table, unused))
    if not parts and unrecognised:
        raise _misfit_error(unrecognised[0], files.columns(unrecognised[0]), preset, table)
    if not parts and not find_image_archives([folder]):
        raise UsageError(f"{folder} holds no csv, tsv, jsonl or parquet file; give the folder of the tables")
    for path in unrecognised:
        LOG.warning("%s is no table of preset %r and was left out", path, preset.name)
    return parts


def _detect_in_file(path: Path, preset: Preset, table: str | None, unused: set[str]) -> list[SourceTable]:
    names = files.columns(path)
    unused.difference_update(names)
    tables = (table,) if table else preset.recognise(names, path.stem)
    if not tables or (table and not _has_columns(names, preset, table)):
        raise _misfit_error(path, names, preset, table)
    source = f"{path.resolve().parent.name}/{path.name}"
    shared = _SharedFrames(path) if len(tables) > 1 else None
    return [SourceTable(name, source, _create_reader(path, preset, name, shared)) for name in tables]


class _SharedFrames:
    """Raw frames of a file with several tables, read once for all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames: list[pl.DataFrame] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """Return the raw frames in the order of the file."""
        if not self._frames:
            self._frames = list(files.frames(self._path))
        return iter(self._frames)


def _create_reader(
    path: Path, preset: Preset, table: str, shared: _SharedFrames | None
) -> Callable[[], Iterator[pl.DataFrame]]:
    return lambda: preset.shape(shared.frames() if shared else files.frames(path), table)


def _has_columns(names: Sequence[str], preset: Preset, table: str) -> bool:
    mapping: Mapping[str, str] = getattr(preset, "mapping", {})
    available = set(names) | {name.upper() for name in names} | {new for new, old in mapping.items() if old in names}
    return available.issuperset(preset.needs.get(table, ()))


def _misfit_error(path: Path, names: Sequence[str], preset: Preset, table: str | None) -> UsageError:
    """Return the error that names the missing columns and a preset that fits."""
    needs = {table: preset.needs[table]} if table and table in preset.needs else preset.needs
    missing = {each: [name for name in columns if name not in names] for each, columns in needs.items()}
    # the table that misses fewest columns; of equals the smallest canonical table, or the largest of a preset
    size = 1 if preset.name == "csv" else -1
    nearest = min(
        [each for each in missing if missing[each]] or list(missing),
        key=lambda each: (len(missing[each]) - len(needs[each]), size * len(needs[each])),
    )
    other = guess_preset(names, path.stem)
    if other and other != preset.name and not (table and preset.name == "csv" and not missing[nearest]):
        remedy = f"these look like the columns of preset {other!r}: give --preset {other}"
    elif preset.name == "csv":
        remedy = f"rename with --map {(missing[nearest] or ['product_id'])[0]}=COLUMN"
    else:
        remedy = "check the file, or leave --preset out and name the columns with --map"
    lacks = ", ".join(missing[nearest]) or "a name that tells what it holds (or --as)"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return UsageError(
        f"{path} does not fit preset {preset.name!r}: as {nearest} it lacks {lacks}; it has {shown}; {remedy}"
    )


def find_image_archives(paths: Sequence[Path]) -> list[Path]:
    """Return the zips among the paths, and in folders `images*.zip` and the subfolder `images`."""
    archives: list[Path] = []
    for path in paths:
        if path.is_dir():
            archives.extend(sorted(path.glob("images*.zip")))
            if (path / "images").is_dir():
                archives.append(path / "images")
        elif path.suffix.lower() == ".zip" and path.exists():
            archives.append(path)
    return archives


def _require_columns(frames: Iterator[pl.DataFrame], table: str, source: str) -> Iterator[pl.DataFrame]:
    """Yield the frames after checking that they have the required columns of the table."""
    for frame in frames:
        missing = [
            column.name for column in schema.TABLES[table] if column.required and column.name not in frame.columns
        ]
        if missing:
            raise UsageError(f"{table}: {source} has no column {missing[0]}; rename one (SQL: AS {missing[0]})")
        yield frame


def inputs_from_frames(tables: Mapping[str, Any]) -> list[SourceTable]:
    """Create source tables from frames: table name to polars, pandas or pyarrow frame.

    Raises:
        UsageError: a name is no table, or a value is no frame.
    """
    parts = []
    for table in tables:
        if table not in schema.TABLES:
            raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES)}")
    for table in (name for name in TABLES if name in tables):
        raw = files.add_row_numbers(to_polars(tables[table]), start=1)
        canonical = list(get_preset("csv").shape(_require_columns(iter([raw]), table, "the frame"), table))
        parts.append(SourceTable(table, f"python/{table}", lambda canonical=canonical: iter(canonical)))  # type: ignore[misc]
    return parts


def to_polars(data: Any) -> pl.DataFrame:
    """Convert a polars, pandas or pyarrow frame, a dictionary of columns or a list of rows to polars.

    Raises:
        UsageError: `data` is none of these.
    """
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    try:
        if hasattr(data, "iloc"):
            return pl.from_pandas(data)
        return pl.DataFrame(data)
    except Exception as error:  # each library has its own errors for what it cannot convert
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"{type(data).__name__} cannot be read as a frame ({reason}); give polars, pandas or pyarrow"
        ) from error
