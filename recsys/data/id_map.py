"""Map between text ids and rows; no other module converts ids.

In: the shop's text ids, compared byte by byte. Out: rows 0..n-1 (int64, -1 = unknown), or the ids of rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from recsys.errors import DataContractError, NotFoundError
from recsys.types import IntArray


class IdMap:
    """Append-only map between text ids and rows 0..n-1.

    Raises:
        DataContractError: an id occurs twice.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._texts = tuple(ids)
        self._rows = {text: row for row, text in enumerate(self._texts)}
        if len(self._rows) != len(self._texts):
            seen: set[str] = set()
            duplicate = next(text for text in self._texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
            raise DataContractError(f"id {duplicate!r} stands twice; ids must be unique")

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, text: object) -> bool:
        return text in self._rows

    @property
    def texts(self) -> tuple[str, ...]:
        """All ids in row order."""
        return self._texts

    def rows(self, ids: Iterable[str]) -> IntArray:
        """Return the row of each id, -1 where unknown: (m,) int64."""
        get = self._rows.get
        return np.fromiter((get(text, -1) for text in ids), dtype=np.int64)

    def ids(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """Return the text of each row (all rows must be known)."""
        return [self._texts[row] for row in np.asarray(rows, dtype=np.int64).tolist()]

    def closest(self, text: str, count: int = 3) -> list[str]:
        """Return up to `count` known ids that look like `text`, for error messages."""
        return difflib.get_close_matches(text, self._texts, n=count, cutoff=0.5)

    def unknown(self, what: str, text: str) -> NotFoundError:
        """Return the error for an unknown id, with the most similar known ids."""
        similar = self.closest(text)
        hint = f"the nearest ids are {', '.join(repr(name) for name in similar)}" if similar else "no id looks like it"
        return NotFoundError(f"unknown {what} '{text}'; {hint}")
