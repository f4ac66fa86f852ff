"""Where a file is cut into chunks does not show in its records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.formats import csv_records as delimited

LINES = st.lists(st.text(st.sampled_from('ab,"\té'), max_size=7).map(lambda text: text + "\n"), max_size=12)


@given(lines=LINES, chunk=st.integers(1, 5))
def test_chunks_do_not_matter(lines: list[str], chunk: int) -> None:
    whole = list(delimited.records(lines, ",", width=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_CHUNK", chunk)
        assert list(delimited.records(lines, ",", width=2)) == whole


def test_a_cell_may_run_over_the_end_of_a_chunk() -> None:
    lines = ["a,1\n"] * 499 + ['b,"2\n', "3\n", '4"\n', "c,5\n"]
    found = list(delimited.records(lines, ",", width=2))
    assert found[499:] == [(501, ["b", "2\n3\n4"], None, None), (504, ["c", "5"], None, None)]


def test_a_quote_that_is_never_closed_loses_one_row() -> None:
    lines = ["a,1\n"] * 700
    lines[3] = 'a,"1\n'
    found = list(delimited.records(lines, ",", width=2))
    assert len(found) == 700
    assert [at for at, fields, _, _ in found if fields is None] == [5]
