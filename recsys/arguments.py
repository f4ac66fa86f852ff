"""Check arguments of the Python interface: one string is one id, never its letters.

In: what a caller gives: a text, a list, a column of polars, pandas, numpy or pyarrow. Out: checked lists of texts or
paths, counts; or an error that says what to write. Imports no other library, so that the command line can use it.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recsys.errors import UsageError

Texts = str | Iterable[str]
"""One text, or several: a list, a tuple, a column of polars, pandas, numpy or pyarrow."""
AnyPath = str | os.PathLike[str]
Paths = AnyPath | Iterable[AnyPath]
"""One path, or several."""

_FRAMES = frozenset({"DataFrame", "LazyFrame", "Table", "RecordBatch"})
_TO_LIST = ("to_pylist", "to_list", "tolist")


def is_frame(value: object) -> bool:
    """Return whether a value is a table of polars, pandas or pyarrow."""
    return any(kind.__name__ in _FRAMES for kind in type(value).__mro__)


def text_list(value: Texts | None, name: str, *, what: str = "id") -> list[str]:
    """Return the texts of an argument; one string is one text, and None is none.

    Args:
        value: the argument.
        name: its name, for messages.
        what: what each text is, for messages.

    Raises:
        UsageError: the argument is a frame or a mapping, or an element is no text or empty.
    """
    items = _to_list(value, name, f"{what}s")
    for item in items:
        if not isinstance(item, str):
            raise UsageError(_wrong_type(item, name, what))
        if not item:
            raise UsageError(f"{name}: an empty text is no {what}; leave it out")
    return [str(item) for item in items]


def single_text(value: object, name: str, *, what: str = "id") -> str:
    """Return one text.

    Raises:
        UsageError: the argument is no text, or several.
    """
    if isinstance(value, str):
        return text_list(value, name, what=what)[0]
    if isinstance(value, Iterable):
        raise UsageError(f"{name}: give one {what} as a text, not a {type(value).__name__}")
    raise UsageError(_wrong_type(value, name, what))


def path_list(value: Paths | None, name: str, *, if_frame: str = "") -> list[Path]:
    """Return the paths of an argument; one string is one path, and None is none.

    Args:
        value: the argument.
        name: its name, for messages.
        if_frame: what to write if the argument is a frame.

    Raises:
        UsageError: the argument is a frame or a mapping, or an element is no path.
    """
    elements = value if isinstance(value, list | tuple) else [value]
    if if_frame and any(is_frame(element) or isinstance(element, Mapping) for element in elements):
        raise UsageError(f"{name}: a path is expected here; {if_frame}")
    items = _to_list(value, name, "paths")
    for item in items:
        if not isinstance(item, str | os.PathLike):
            raise UsageError(f"{name}: {item!r} is of type {type(item).__name__}; give the path of a file or folder")
        if not os.fspath(item):
            raise UsageError(f"{name}: an empty text is no path; leave it out")
    return [Path(item) for item in items]


def single_path(value: AnyPath | None, name: str) -> Path | None:
    """Return one path, or None.

    Raises:
        UsageError: the argument is no path, or several.
    """
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name}: give the path of one file or folder, not a {type(value).__name__}")
    return path_list(value, name)[0]


def require_frame(value: object, name: str, *, remedy: str) -> None:
    """Refuse a path where a frame is expected.

    Args:
        value: the argument.
        name: its name, for messages.
        remedy: what to write instead.

    Raises:
        UsageError: the argument is a text or a path.
    """
    if isinstance(value, str | os.PathLike):
        raise UsageError(f"{name}: a frame is expected here, not the path {os.fspath(value)!r}; {remedy}")


def require_mapping(value: object, name: str, *, example: str) -> None:
    """Refuse anything but a mapping or None.

    Args:
        value: the argument.
        name: its name, for messages.
        example: such as `{"text": "red"}`, for messages.

    Raises:
        UsageError: the argument is something else.
    """
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"{name}: give a dictionary such as {example}, not a {type(value).__name__}")


def positive_count(value: int, name: str = "k") -> int:
    """Return a whole number of at least 1.

    Raises:
        UsageError: it is less, or no whole number.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} is {value!r}; give a whole number of at least 1") from None
    if number < 1:
        raise UsageError(f"{name} is {number}; it must be at least 1")
    return number


def optional_count(value: int | None, name: str = "k") -> int | None:
    """Return `positive_count`, or None for None.

    Raises:
        UsageError: as `positive_count`.
    """
    return None if value is None else positive_count(value, name)


def _to_list(value: Any, name: str, plural: str) -> list[Any]:
    """Return the elements of an argument."""
    if value is None:
        return []
    if isinstance(value, str | os.PathLike):
        return [value]
    if is_frame(value):
        raise UsageError(f"{name}: give {plural}, not a frame; one column of it is enough, such as frame['{name}']")
    if isinstance(value, Mapping):
        raise UsageError(f"{name}: give {plural} as a list, not a {type(value).__name__}")
    if isinstance(value, bytes | bytearray):
        return [value]
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)  # a set has no order of its own
    for method in _TO_LIST:
        convert = getattr(value, method, None)
        if callable(convert):
            listed = convert()
            return listed if isinstance(listed, list) else [listed]
    return list(value) if isinstance(value, Iterable) else [value]


def _wrong_type(item: object, name: str, what: str) -> str:
    shown = repr(item)[:60]
    article = "an" if what[0] in "aeiou" else "a"
    if item is None:
        return f"{name}: None is no {what}; leave it out"
    if isinstance(item, bytes | bytearray):
        return (
            f"{name}: {shown} is of type {type(item).__name__}, but {article} {what} is text; decode it with .decode()"
        )
    if isinstance(item, Iterable):
        return f"{name}: {shown} is of type {type(item).__name__}; give each {what} as a text, str"
    return f"{name}: {shown} is of type {type(item).__name__}, but {article} {what} is text; write str({shown})"
