"""Files come in whole, and a broken line costs that line only."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data import file_readers as files
from recsys.errors import UsageError


def _read(path: Path, batch: int = 1000) -> pl.DataFrame:
    return pl.concat(list(files.frames(path, batch=batch)), how="diagonal")


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_keeps_every_cell_as_text(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.csv", '\ufeffproduct_id;price\r\n007;"12,50"\r\n008;\r\n')
    frame = _read(path)
    assert files.columns(path) == ["product_id", "price"]
    assert frame["product_id"].to_list() == ["007", "008"]
    assert frame["price"].to_list() == ["12,50", ""]
    assert frame[files.ROW].to_list() == [2, 3]


@pytest.mark.parametrize(
    ("lines", "bad_rows", "good"),
    [
        (["a,1", "b", "c,3"], [3], ["a", "c"]),
        (["a,1", "b,2,3", "c,3"], [3], ["a", "c"]),
        (["a,1", 'b,"open', "c,3", "d,4"], [3], ["a", "c", "d"]),
        (['a,"1', 'b,"2', "c,3"], [2, 3], ["c"]),
        (["a,1", 'b,"x"y', "c,3"], [3], ["a", "c"]),
        (["a,1", "", "c,3"], [], ["a", "c"]),
        (['a,"one', 'two"', "c,3"], [], ["a", "c"]),
    ],
)
def test_a_broken_line_is_reported_and_the_rest_goes_on(
    tmp_path: Path, lines: list[str], bad_rows: list[int], good: list[str]
) -> None:
    frame = _read(_write(tmp_path / "x.csv", "id,n\n" + "\n".join(lines) + "\n"))
    bad = frame.filter(pl.col(files.BAD).is_not_null())
    assert bad[files.ROW].to_list() == bad_rows
    assert frame.filter(pl.col(files.BAD).is_null())["id"].to_list() == good


def test_line_numbers_count_lines_within_cells(tmp_path: Path) -> None:
    frame = _read(_write(tmp_path / "x.csv", 'id,n\na,"one\ntwo"\nb\nc,3\n'))
    assert frame[files.ROW].to_list() == [2, 4, 5]
    assert frame[files.RAW].to_list() == [None, "b", None]


def test_bytes_that_are_not_utf8_cost_one_line(tmp_path: Path) -> None:
    frame = _read(_write(tmp_path / "x.csv", b"id,n\na,1\nb,caf\xe9\nc,\xc3\xa9\n"))
    assert frame[files.BAD].to_list() == [None, "it is not UTF-8; save the file as UTF-8, or set [data] encoding", None]
    assert frame["n"].to_list()[2] == "é"


@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8)] * 2),
        max_size=12,
    ),
    batch=st.integers(1, 5),
)
def test_what_csv_writes_is_read_back(
    rows: list[tuple[str, str]], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    frame = _read(path, batch=batch)
    filled = [row for row in rows if any(cell.strip() for cell in row)]  # rows of empty cells are blank lines
    assert list(zip(frame["a"].to_list(), frame["b"].to_list(), strict=True)) == filled
    assert frame[files.BAD].null_count() == len(filled)


@given(lines=st.lists(st.text(st.sampled_from('ab,"\t;é'), min_size=1, max_size=9), max_size=14))
def test_every_line_is_accounted_for(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    _write(path, "id,n\n" + "".join(line + "\n" for line in lines))
    frame = _read(path, batch=3)
    numbers = frame[files.ROW].to_list()
    assert numbers == sorted(set(numbers))
    spans = {at: lines[at - 2] for at in numbers}
    for at, reason, raw in frame.select(files.ROW, files.BAD, files.RAW).iter_rows():
        assert reason is None or raw == spans[at]
    # a line is missing only inside a quoted cell of the row before it, or when it is blank
    for number, line in enumerate(lines, start=2):
        if number not in spans and line.strip('",;\t '):
            before = max((at for at in spans if at < number), default=0)
            assert before and '"' in spans[before]


def test_jsonl_lines_may_have_their_own_keys_and_faults(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.jsonl",
        '{"product_id": 7, "price": 1.5}\n\n{"product_id": "b", "tags": ["x"]}\n'
        '[1]\n{"product_id": \n{"t": "\\ud800"}\n',
    )
    frame = _read(path)
    assert frame["product_id"].to_list() == ["7", "b", None, None, None]
    assert frame["tags"].to_list()[1] == '["x"]'
    assert frame[files.ROW].to_list() == [1, 3, 4, 5, 6]
    assert [reason is None for reason in frame[files.BAD].to_list()] == [True, True, False, False, False]


def test_compressed_text_and_parquet(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.csv.gz", "wt") as stream:
        stream.write("id\n1\n")
    pl.DataFrame({"id": ["1", "2"]}).write_parquet(tmp_path / "x.parquet")
    assert _read(tmp_path / "x.csv.gz")["id"].to_list() == ["1"]
    assert _read(tmp_path / "x.parquet", batch=1).select("id", files.ROW).rows() == [("1", 1), ("2", 2)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "", "is empty"),
        ("x.csv", "a,a\n1,2\n", "stands twice"),
        ("x.parquet", "PAR1 not really", "not a readable parquet"),
        ("x.xlsx", "PK", "is not a readable workbook"),
        ("x.csv.gz", "not gzip", "cannot be"),
    ],
)
def test_a_file_that_is_none_of_its_kind(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = _write(tmp_path / name, content)
    with pytest.raises(UsageError, match=words):
        files.columns(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder") as caught:
        files.columns(tmp_path / "none.csv")
    assert caught.value.exit_code == 2
