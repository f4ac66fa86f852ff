"""Files of labels: both shapes, every reason to reject a row, what cannot be learnt at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys.config import DataSettings
from recsys.data import labels
from recsys.data import rejected_rows as rejects
from recsys.data.id_map import IdMap
from recsys.errors import DataContractError, UsageError

IDS = IdMap([f"p{i}" for i in range(6)])
LOOSE = DataSettings(max_bad_fraction=1)


def read(path: Path, settings: DataSettings = LOOSE) -> labels.LabelReadResult:
    return labels.read(path, IDS, settings=settings)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_both_shapes_and_all_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    wide = written(tmp_path / "wide.csv", "product_id,size,kind\np3,7,boot\np1,8,\np0,,shoe\np4, 7 ,shoe\n")
    frame = pl.DataFrame({"product_id": ["p3", "p1", "p0", "p4"], "size": [7.0, 8.0, None, 7.0],
                          "kind": ["boot", None, "shoe", "shoe"]})  # fmt: skip
    frame.write_parquet(tmp_path / "wide.parquet")
    frame.write_ndjson(tmp_path / "wide.jsonl")
    one = "product_id,attribute,value\np3,size,7\np3,kind,boot\np1,size,8\np0,kind,shoe\np4,size,7\np4,kind,shoe\n"
    expected = read(wide)
    assert (expected.labels.names, expected.labels.values) == (("kind", "size"), (("boot", "shoe"), ("7", "8")))
    assert expected.labels.targets.tolist() == [[1, -1], [-1, 1], [-1, -1], [0, 0], [1, 0], [-1, -1]]
    assert expected.labels.rows.tolist() == [0, 1, 3, 4]
    for other in (tmp_path / "wide.parquet", written(tmp_path / "long.csv", one)):
        found = read(other)
        assert np.array_equal(found.labels.targets, expected.labels.targets)
        assert found.labels.digest == expected.labels.digest and not found.rejected.height and not found.warnings
    kinds = read(tmp_path / "wide.jsonl").labels
    assert kinds.names == ("kind", "size") and kinds.values[0] == ("boot", "shoe")
    more = read(written(tmp_path / "more.csv", "product_id,size,kind\np3,7,boot\np1,8,\np0,,shoe\np4,7,boot\n"))
    assert more.labels.digest != expected.labels.digest


def test_every_bad_row_is_rejected_with_its_number_and_reason(tmp_path: Path) -> None:
    path = written(
        tmp_path / "labels.csv",
        "product_id,kind\np0,boot\np9,shoe\n,shoe\np1,\np0,boot\np0,shoe\np2,a\x00b\np3,shoe,more,cells\np1,shoe\n",
    )
    found = read(path)
    rows = {row["row_no"]: row["code"] for row in found.rejected.iter_rows(named=True)}
    assert rows == {3: "unknown_product", 4: "missing_id", 5: "missing_label", 6: "repeated_label",
                    7: "repeated_label", 8: "nul_in_text", 9: "bad_row"}  # fmt: skip
    assert found.counts["rows_in"] == found.counts["used"] + found.counts["rejected"] == 9
    assert found.counts["rejected_by"]["repeated_label"] == 2
    assert found.labels.targets[:, 0].tolist() == [0, 1, -1, -1, -1, -1]
    said = [rejects.message(row) for row in found.rejected.iter_rows(named=True)]
    assert said[0] == "labels row 3: product_id 'p9' is not in the catalogue; ingest products first, or mend the id"
    assert "column kind" in said[2] and "labelled twice" in said[3]
    assert set(found.rejected["table_name"]) == {"labels"} and found.source.endswith("/labels.csv")
    assert "7 of 9 rows" in found.warnings[0]
    with pytest.raises(DataContractError, match=r"7 of 9 rows .* max_bad_fraction"):
        read(path, DataSettings())


def test_rows_of_one_label_each_are_judged_by_label(tmp_path: Path) -> None:
    lines = [("p0", "kind", "boot"), ("p0", "size", "7"), ("p0", "kind", "shoe"), ("p1", None, "7"),
             ("p1", "size", None), ("p1", "k" * 256, "7"), ("p2", "kind", "shoe"), ("p2", "size", "8")]  # fmt: skip
    path = tmp_path / "labels.jsonl"
    path.write_text(
        "".join(json.dumps(dict(zip(("product_id", "attribute", "value"), each, strict=True))) + "\n" for each in lines)
    )
    found = read(path)
    assert dict(found.rejected.select("row_no", "code").rows()) == {
        3: "repeated_label", 4: "missing_label", 5: "missing_label", 6: "too_long",
    }  # fmt: skip
    assert "longer than 255" in rejects.message(found.rejected.row(3, named=True))
    assert found.labels.targets[:3].tolist() == [[0, 0], [-1, -1], [1, 1]]


def test_what_cannot_be_learnt_is_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    found = read(written(path, "product_id,kind,season\np0,boot,winter\np1,shoe,winter\n"))
    assert found.labels.names == ("kind",) and "'season' has the one value 'winter'" in found.warnings[0]
    for text, error, message in (
        ("product_id,kind\np0,boot\np1,boot\n", DataContractError, "nothing to learn"),
        ("product_id,kind\n", DataContractError, "no rows"),
        ("product_id\np0\n", UsageError, "column a label"),
        ("id,kind\np0,a\n", UsageError, "it has id, kind"),
        (f"product_id,{'k' * 256}\np0,a\n", UsageError, "longer than 255"),
        ("product_id,kind\np9,a\np8,b\n", DataContractError, "2 of 2 rows"),
    ):
        with pytest.raises(error, match=message):
            read(written(path, text))
    many = IdMap([str(i) for i in range(1001)])
    written(path, "product_id,kind\n" + "".join(f"{i},v{i}\n" for i in range(1001)))
    with pytest.raises(DataContractError, match="1,001 different values"):
        labels.read(path, many, settings=LOOSE)
    with pytest.raises(UsageError, match="no such file"):
        read(tmp_path / "none.csv")
