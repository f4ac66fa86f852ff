"""Find the tables and images in files, folders and zips, and account for every file that is not read.

In: paths with a preset. Out: `SourceTable`s, image archives, and the files that are not read, each with its reason.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import polars as pl

from recsys.data import file_readers as files
from recsys.data import schema
from recsys.data.formats.input_file import AUTO, InputFile
from recsys.data.image_archive import SUFFIXES
from recsys.data.input_sources import TABLES, SourceTable
from recsys.data.presets import Preset, get_preset, guess_preset
from recsys.data.presets.canonical import Canonical
from recsys.data.table_recognition import find_column, recognise_table, table_by_name
from recsys.errors import UsageError, suggestion
from recsys.log import printable

_SILENT: Final = frozenset({"recsys.toml", "recsys.db", "recsys.db-wal", "recsys.db-shm", "report.html"})
"""Files of a project folder."""
_SILENT_FOLDERS: Final = frozenset({"artifacts", "images", "__pycache__", "__MACOSX"})
UNKNOWN_FORMAT: Final = "of a kind that is not read"
NO_TABLE: Final = "no table of the preset"
LOOSE_IMAGE: Final = "an image outside of images/; give its folder with --images"
UNCLEAR: Final = "in a subfolder and without a name or title that tells what it holds; name the file to read it"
_MAX_NAMES: Final = 5
_MAX_NAME_LENGTH: Final = 40


@dataclass(frozen=True)
class InputFiles:
    """The files of an ingest.

    Attributes:
        tables: source tables: products, then users, then events.
        unread: file to the reason why it is not read.
    """

    tables: list[SourceTable]
    unread: dict[str, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return one line for each reason why files are not read."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.unread.items():
            by_reason.setdefault(reason, []).append(name)
        return [_unread_line(reason, names) for reason, names in by_reason.items()]


def _unread_line(reason: str, names: Sequence[str]) -> str:
    count = "1 file was" if len(names) == 1 else f"{len(names):,} files were"
    further = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"{count} not read, {reason}: {', '.join(names[:_MAX_NAMES])}{further}"


@dataclass(frozen=True)
class _Candidate:
    """A file that may hold a table.

    Attributes:
        file: the file.
        parts: file name without suffix and the names of its folders, the nearest first.
        constants: columns that folders such as `dt=2024-05-01` give.
        given: whether the file itself was named, not a folder.
        nested: whether it lies in a subfolder, where other files than the shop's tables are likely.
    """

    file: InputFile
    parts: tuple[str, ...]
    constants: dict[str, str] = field(default_factory=dict)
    given: bool = False
    nested: bool = False


def read_inputs(
    paths: Sequence[Path],
    *,
    preset: str | None = None,
    table: str | None = None,
    mapping: Mapping[str, str] | None = None,
    encoding: str = AUTO,
    decimal: str = ".",
) -> InputFiles:
    """Detect the tables in files and folders; rows are read when the frames are iterated.

    Args:
        paths: files, zips, or folders whose files are read, those of subfolders too (images are left to
            `find_image_archives`).
        preset: name of the preset; None = canonical columns.
        table: the table in the files, if it cannot be detected.
        mapping: canonical column name to name in the file.
        encoding: encoding of text files.
        decimal: decimal mark of numbers in text files.

    Raises:
        UsageError: a path is missing, a file does not fit the preset, or a folder has no table.
    """
    format_ = get_preset(preset or "csv", mapping=_validate_mapping(mapping or {}), decimal=decimal)
    if table is not None and table not in schema.TABLES:
        raise UsageError(f"no table {table!r}{suggestion(table, schema.TABLES) or '; give products, events or users'}")
    unread: dict[str, str] = {}
    unused = set((mapping or {}).values())
    tables: list[SourceTable] = []
    sources: set[str] = set()
    for path in paths:
        candidates = list(_find_candidates(path, encoding, unread))
        found = []
        for candidate in candidates:
            found += _detect_tables(candidate, format_, table, unused, unread, sources)
        if not found and not (find_image_archives([path]) and not (candidates and path.is_file())):
            raise _nothing_found(path, candidates, format_, table)
        tables += found
    if unused and tables:
        name = min(unused)
        raise UsageError(f"--map names column {name!r}, which no file has; mend the name")
    return InputFiles(sorted(tables, key=lambda part: TABLES.index(part.table)), unread)


def _validate_mapping(mapping: Mapping[str, str]) -> Mapping[str, str]:
    canonical = sorted({column.name for columns in schema.TABLES.values() for column in columns})
    for new in mapping:
        if new not in canonical and not new.startswith(schema.ATTRIBUTE_PREFIX):
            raise UsageError(
                f"--map {new}=...: there is no canonical column {new!r}"
                f"{suggestion(new, canonical) or '; there are ' + ', '.join(canonical) + ' and attributes.NAME'}"
            )
    return mapping


def _find_candidates(path: Path, encoding: str, unread: dict[str, str]) -> Iterator[_Candidate]:
    """Yield the files that may hold tables; note the others as unread."""
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    if path.is_dir():
        for folder, subfolders, names in os.walk(path, followlinks=False):
            is_root = Path(folder) == path
            subfolders[:] = sorted(
                name for name in subfolders if not _is_hidden(name) and not (is_root and name in _SILENT_FOLDERS)
            )
            for name in sorted(names):
                if _is_hidden(name) or (is_root and name in _SILENT):
                    continue
                yield from _classify(Path(folder, name), path, encoding, unread)
    elif path.suffix.lower() == ".zip":
        yield from _zip_candidates(path, (path.stem,), encoding, unread)
    else:
        yield _Candidate(InputFile(path, encoding=encoding), (InputFile(path).stem,), given=True)


def _classify(path: Path, root: Path, encoding: str, unread: dict[str, str]) -> Iterator[_Candidate]:
    """Yield a file of a folder if it may hold a table."""
    shown = path.relative_to(root).as_posix()
    file = InputFile(path, encoding=encoding)
    folders = [part for part in reversed(path.relative_to(root).parts[:-1])]
    exact = [root.resolve().name] if root.resolve().name.lower() in schema.TABLES else []
    parts = (file.stem, *[part for part in folders if "=" not in part], *exact)
    if not path.is_file():
        unread[shown] = "no plain file"
    elif path.suffix.lower() == ".zip":
        if not (path.parent == root and path.name.startswith("images")):
            yield from _zip_candidates(path, parts, encoding, unread)
    elif path.suffix.lower() in SUFFIXES:
        unread[shown] = LOOSE_IMAGE
    elif files.detect_format(file) is None:
        unread[shown] = UNKNOWN_FORMAT
    else:
        pairs = [part.partition("=") for part in folders if "=" in part]
        constants = {name: value for name, _, value in pairs if name and value}
        yield _Candidate(file, parts, constants, nested=path.parent != root)


def _zip_candidates(path: Path, parts: tuple[str, ...], encoding: str, unread: dict[str, str]) -> Iterator[_Candidate]:
    for member in sorted(files.zip_members(path)):
        inner = PurePosixPath(member)
        if any(_is_hidden(part) or part == "__MACOSX" for part in inner.parts):
            continue
        file = InputFile(path, member, encoding)
        if files.detect_format(file) is not None:
            yield _Candidate(file, (file.stem, *reversed(inner.parts[:-1]), *parts))
        elif inner.suffix.lower() not in SUFFIXES:
            unread[str(file)] = UNKNOWN_FORMAT


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_", "~$"))


def _detect_tables(
    candidate: _Candidate,
    preset: Preset,
    table: str | None,
    unused: set[str],
    unread: dict[str, str],
    sources: set[str],
) -> list[SourceTable]:
    file = candidate.file
    try:
        names = [*files.columns(file), *candidate.constants]
    except UsageError:
        if candidate.given or table or table_by_name(candidate.parts):
            raise
        unread[str(file)] = "empty or not readable"
        return []
    unused.difference_update(names)
    tables: tuple[str, ...] = (table,) if table else preset.recognise(names, candidate.parts)
    if table and not _has_columns(names, preset, table):
        raise _misfit_error(candidate, names, preset, table)
    if not tables:
        expected = None
        if isinstance(preset, Canonical):
            expected, _ = recognise_table(names, candidate.parts, preset.mapping, preset.needs)
        if candidate.given or expected:
            raise _misfit_error(candidate, names, preset, expected)
        unread[str(file)] = f"{NO_TABLE} {preset.name!r}"
        return []
    if candidate.nested and not table and not _is_clear(candidate, names, tables):
        unread[str(file)] = UNCLEAR
        return []
    source = _unique_source(file, sources)
    notes: Counter[str] = Counter()
    shared = _SharedFrames(file, candidate.constants, notes) if len(tables) > 1 else None
    return [SourceTable(name, source, _create_reader(candidate, preset, name, notes, shared), notes) for name in tables]


def _is_clear(candidate: _Candidate, names: Sequence[str], tables: Sequence[str]) -> bool:
    """Return whether a file of a subfolder is a table by its name, or by more than one column."""
    if table_by_name(candidate.parts) is not None or tables != ("products",):
        return True
    return find_column(schema.TITLE, names) is not None


def _unique_source(file: InputFile, sources: set[str]) -> str:
    """Return folder and name of a file, with more folders if another file has the same."""
    parts = [*file.path.resolve().parts, *(PurePosixPath(file.member).parts if file.member else ())]
    depth = 2
    while "/".join(parts[-depth:]) in sources and depth < len(parts):
        depth += 1
    source = "/".join(parts[-depth:])
    sources.add(source)
    return source


class _SharedFrames:
    """Raw frames of a file with several tables, read once for all of them."""

    def __init__(self, file: InputFile, constants: Mapping[str, str], notes: Counter[str]) -> None:
        self._file, self._constants, self._notes = file, constants, notes
        self._frames: list[pl.DataFrame] = []

    def frames(self) -> Iterator[pl.DataFrame]:
        """Return the raw frames in the order of the file."""
        if not self._frames:
            self._frames = list(_read_frames(self._file, self._constants, self._notes))
        return iter(self._frames)


def _read_frames(file: InputFile, constants: Mapping[str, str], notes: Counter[str]) -> Iterator[pl.DataFrame]:
    for frame in files.frames(file, notes=notes):
        missing = [pl.lit(value).alias(name) for name, value in constants.items() if name not in frame.columns]
        yield frame.with_columns(missing)


def _create_reader(
    candidate: _Candidate, preset: Preset, table: str, notes: Counter[str], shared: _SharedFrames | None
) -> Callable[[], Iterator[pl.DataFrame]]:
    def read() -> Iterator[pl.DataFrame]:
        frames = shared.frames() if shared else _read_frames(candidate.file, candidate.constants, notes)
        return preset.shape(frames, table)

    return read


def _has_columns(names: Sequence[str], preset: Preset, table: str) -> bool:
    mapping: Mapping[str, str] = getattr(preset, "mapping", {})
    available = set(names) | {name.upper() for name in names} | {new for new, old in mapping.items() if old in names}
    return available.issuperset(preset.needs.get(table, ()))


def _nothing_found(path: Path, candidates: Sequence[_Candidate], preset: Preset, table: str | None) -> UsageError:
    for candidate in candidates:
        try:
            names = files.columns(candidate.file)
        except UsageError as error:
            return error
        return _misfit_error(candidate, names, preset, table)
    if path.is_dir():
        return UsageError(f"{path} holds no table; give a folder or file with {files.KNOWN}")
    return UsageError(f"{path} holds neither a table nor images; give a zip with {files.KNOWN}")


def _misfit_error(candidate: _Candidate, names: Sequence[str], preset: Preset, table: str | None) -> UsageError:
    """Return the error that names the missing columns and what to do: another preset, or a mapping."""
    file = candidate.file
    mapping: Mapping[str, str] = getattr(preset, "mapping", {})
    available = set(names) | {new for new, old in mapping.items() if old in names}
    needs = {table: preset.needs[table]} if table and table in preset.needs else preset.needs
    missing = {each: [name for name in columns if name not in available] for each, columns in needs.items()}
    # the table that misses fewest columns; of equals the smallest canonical table, or the largest of a preset
    size = 1 if preset.name == "csv" else -1
    nearest = min(
        [each for each in missing if missing[each]] or list(missing),
        key=lambda each: (len(missing[each]) - len(needs[each]), size * len(needs[each])),
    )
    other = guess_preset(names, candidate.parts, table)
    if 2 * sum(map(_is_number, names)) >= len(names):
        remedy = "the first line looks like data: put a line with the column names above it"
    elif other and other != preset.name and not (table and preset.name == "csv" and not missing[nearest]):
        remedy = f"these look like the columns of preset {other!r}: give --preset {other}"
    elif preset.name == "csv":
        pairs = [
            f"--map {name}={_shorten(find_column(name, names) or 'COLUMN')}"
            for name in missing[nearest] or ["product_id"]
        ]
        remedy = f"name the columns with {' '.join(pairs)}"
    else:
        remedy = "check the file, or leave --preset out and name the columns with --map"
    lacks = ", ".join(missing[nearest]) or "a name that tells what it holds (or --as)"
    shown = ", ".join(_shorten(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return UsageError(
        f"{file} does not fit preset {preset.name!r}: as {nearest} it lacks {lacks}; it has {shown}; {remedy}"
    )


def _is_number(name: str) -> bool:
    """Whether a column name is a number, as in a file without a header."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _shorten(name: str) -> str:
    """Return a column name as it can be shown: one line, at most 40 characters."""
    line = printable(name)
    return line if len(line) <= _MAX_NAME_LENGTH else line[: _MAX_NAME_LENGTH - 3] + "..."


def find_image_archives(paths: Sequence[Path]) -> list[Path]:
    """Return the zips with images among the paths, and in folders `images*.zip` and the subfolder `images`."""
    archives: list[Path] = []
    for path in paths:
        if path.is_dir():
            archives.extend(sorted(path.glob("images*.zip")))
            if (path / "images").is_dir():
                archives.append(path / "images")
        elif path.suffix.lower() == ".zip" and path.exists():
            members = files.zip_members(path)
            if any(PurePosixPath(member).suffix.lower() in SUFFIXES for member in members) or not members:
                archives.append(path)
    return archives
