"""The transfer benchmark, small: both ways are told after every length, and the source's words are taken over."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recsys.encoder import serialization as checkpoint
from tests.benchmarks.test_representation import SCRIPT, files

__all__ = ["files"]


def test_both_ways_are_told_after_each_length(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import transfer
    from fashion_shop import read
    from representation_training import QUICK

    from recsys import config

    settings = config.load(Path("/nonexistent"), flags=dict(QUICK), env={})
    shop = read(
        products=files / "styles.parquet",
        images=files / "images.zip",
        test_products=None,
        test_images=None,
        folder=tmp_path / "pictures",
        settings=settings.images,
        pictured_only=True,
        quick=True,
    )
    source = checkpoint.save(transfer.begun(shop, settings, transfer.DEFAULT_PLAN), tmp_path / "models")
    given = ["--products", files / "styles.parquet", "--images", files / "images.zip", "--source", source]
    given += ["--work", tmp_path / "work", "--quick", "--json", "--passes", 1]
    monkeypatch.setattr(sys, "argv", ["transfer.py", *map(str, given)])
    assert transfer.main() == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["benchmark"] == "transfer"
    assert {row["system"] for row in last["rows"]} == {"recsys", "from scratch"}
    assert {row["slice"].split(",")[0] for row in last["rows"]} == {"before", "1 passes"}
    taken, of = map(int, last["taken"]["words words"].split(" of "))
    assert taken == of > 0
    # the very same shop: before any step both stand at the same place but for their random layers
    held = {(row["system"], row["slice"], row["metric"]): row["value"] for row in last["rows"]}
    assert held["recsys", "before", "knn20_articleType all"] > 0
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in last["rows"])
