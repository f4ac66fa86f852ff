"""benchmarks/encode.py on a few texts and pictures, with a stand-in for sentence-transformers."""

import importlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.encoder import tiny_backbones as backbones

HERE = Path(__file__).resolve().parents[2]
FAKE = """
import json, sys, time
from pathlib import Path
import numpy as np
folder, model = Path(sys.argv[2]), Path(sys.argv[3])
texts = json.loads((folder / "texts.json").read_text())
assert (model / "config.json").exists()
print("noise")
print(json.dumps({"versions": {"sentence-transformers": "9"}}), flush=True)
for line in sys.stdin:
    time.sleep(0.01)
    np.save(folder / f"{line.strip()}.npy", np.full((len(texts), 24), 24**-0.5, np.float32))
    print(json.dumps({"seconds": 0.5 if line.strip() == "default" else 0.25}), flush=True)
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("benchmark")
    names = ["red boots", "blue dress", "靴子"] * 20
    pl.DataFrame({"prod_name": names, "detail_desc": ["A fine one", None, "好"] * 20}).write_parquet(
        folder / "articles.parquet"
    )
    with zipfile.ZipFile(folder / "images.zip", "w") as held:
        for at in range(8):
            buffer = io.BytesIO()
            Image.fromarray(np.full((16, 10, 3), 30 * at, np.uint8)).save(buffer, "JPEG")
            held.writestr(f"{at}.jpg", buffer.getvalue())
    model = backbones.text_model(folder / "model")
    return [
        "--articles",
        f"{folder / 'articles.parquet'}",
        "--images",
        f"{folder / 'images.zip'}",
        "--model",
        f"{model}",
    ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the script as it would run by itself, but for loading torch anew."""
    monkeypatch.syspath_prepend(HERE / "benchmarks")
    script = importlib.import_module("encode")

    def started(*options: object):
        monkeypatch.setattr(sys, "argv", ["encode.py", *map(str, options), "--quick", "--json"])
        assert script.main() == 0
        said = capsys.readouterr()
        last = json.loads(said.out.splitlines()[-1])
        return last, {(row["system"], row["metric"]): row for row in last["rows"]}, said.err

    return started


def test_ours_and_theirs_take_turns(options: list[str], run, tmp_path: Path) -> None:
    python = tmp_path / "python-of-others"
    python.write_text(f"#!{sys.executable}\n{FAKE}", encoding="utf-8")
    python.chmod(0o755)
    last, rows, _ = run(*options, "--peers", python)
    assert last["benchmark"] == "encode" and last["quick"] is True
    assert last["facts"]["texts"] == 40 and last["facts"]["peers"] == {"sentence-transformers": "9"}
    assert rows["sentence-transformers", "texts_per_s"]["value"] == 80
    assert rows["sentence-transformers bf16", "texts_per_s"]["value"] == 160
    assert rows["recsys fp32", "cosine_to_recsys"]["low"] > 0.999
    assert rows["sentence-transformers", "cosine_to_recsys"]["high"] < 0.999
    ratio = rows["recsys", "texts_per_s"]["value"] / 80
    assert last["ratios"]["texts_per_s recsys / sentence-transformers"] == pytest.approx(ratio, abs=1e-3)
    assert {system for system, metric in rows if metric == "pictures_per_s"} == {"recsys", "PIL"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows.values())


def test_with_only_ours_no_other_is_asked_and_a_missing_one_is_told_of(options: list[str], run, tmp_path: Path) -> None:
    _, rows, said = run(*options, "--peers", tmp_path / "nothing", "--only", "recsys")
    assert {system for system, _ in rows} == {"recsys", "recsys fp32"}
    assert "left out" not in said
    _, rows, said = run(*options[:2], *options[4:], "--peers", tmp_path / "nothing")
    assert {system for system, _ in rows} == {"recsys", "recsys fp32"}
    assert "sentence-transformers left out" in said
