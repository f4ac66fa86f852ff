"""Read the first sheet of Excel workbooks (.xlsx, .xls, .ods) with fastexcel.

In: a file. Out: its column names; one frame with the row number of each row (the header is row 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from recsys.data.formats.input_file import InputFile
from recsys.data.formats.rows import add_row_numbers
from recsys.errors import UsageError


def columns(file: InputFile) -> list[str]:
    """Return the column names of the first sheet.

    Raises:
        UsageError: the file is no workbook, or fastexcel is not installed.
    """
    return [name for name in _load(file)[0].columns if not name.startswith("__UNNAMED__")]


def frames(file: InputFile, *, notes: Counter[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of the first sheet; count remarks in `notes`."""
    frame, others = _load(file)
    if others:
        notes[f"only the first sheet is read; further sheets: {', '.join(others[:5])}"] += len(others)
    unnamed = [name for name in frame.columns if name.startswith("__UNNAMED__")]
    for name in unnamed:
        if frame[name].null_count() < frame.height:
            notes[f"column {frame.columns.index(name) + 1} has no name and was left out"] += 1
    frame = add_row_numbers(frame.drop(unnamed), start=2)
    names = [name for name in frame.columns if not name.startswith("__")]
    yield frame.filter(pl.any_horizontal(pl.col(names).is_not_null())) if names and frame.height else frame


def _load(file: InputFile) -> tuple[pl.DataFrame, list[str]]:
    try:
        import fastexcel
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{file}: Excel files need another package; pip install 'recsys[excel]', or save the sheet as csv"
        ) from error
    with file.open_binary() as stream:
        data = stream.read()
    try:
        workbook: Any = fastexcel.read_excel(data)
        names = list(workbook.sheet_names)
        frame = workbook.load_sheet(0).to_polars()
    except Exception as error:  # fastexcel has an error class for each kind of damage
        reason = (str(error).splitlines() or ["unknown error"])[0][:120]
        raise UsageError(f"{file} is not a readable workbook ({reason}); save the sheet as csv") from error
    return frame.rename({name: " ".join(name.split()) for name in frame.columns}), names[1:]
