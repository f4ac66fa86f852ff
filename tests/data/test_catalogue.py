"""Content hashes: the same on every machine and for every way of computing them."""

from __future__ import annotations

from hashlib import blake2b

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.catalogue import content_hashes

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
COLUMNS = ["title", "nowhere", "price"]


def _plainly(rows: list[tuple[str | None, float | None]]) -> list[int]:
    """Row by row, as documented: names, then cells, absent ones as a NUL."""
    out = []
    for title, price in rows:
        shown = None if price is None else pl.Series([price]).cast(pl.String)[0]
        cells = ["\x00" if cell is None else cell for cell in (title, None, shown)]
        text = "\x1f".join(COLUMNS) + "\x1e" + "\x1f".join(cells)
        out.append(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little"))
    return out


@given(st.lists(st.tuples(TEXT, st.none() | st.floats(allow_nan=False, allow_infinity=False))))
def test_hashes_are_those_of_a_plain_loop(rows: list[tuple[str | None, float | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"title": pl.String, "price": pl.Float64}, orient="row")
    assert content_hashes(frame, COLUMNS).tolist() == _plainly(rows)


def test_a_hash_stays_what_it_is() -> None:
    frame = pl.DataFrame({"title": ["Red boots", None], "price": [12.5, None]})
    assert [f"{number:016x}" for number in content_hashes(frame, ["title", "price"]).tolist()] == [
        "c77d950f4a7e556b",
        "e99bad5e1894f5ca",
    ]
    assert len(set(content_hashes(frame, []).tolist())) == 1
    assert content_hashes(frame[:0], ["title"]).tolist() == []
