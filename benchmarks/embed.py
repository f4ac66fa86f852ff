"""Vectors at rest: `embed` when nothing or one title changed, what each storage costs and loses, decoding of pictures.

In: sizes; vectors of one's own with --vectors. Out: a table; with --json one line of JSON at the end.

    python benchmarks/embed.py --products 100000

`embed` runs as a process of its own, imports and all, a warm-up before the rounds. `cpu_s` is what it worked,
`seconds` what it took: on a busy machine only the first says something. Without --vectors the storages are compared on
drawn groups of products, whose first numbers are no better than the others; a model's may be.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import embed_shop
import numpy as np
from PIL import Image
from telling import machine, say

from recsys.config import ImageSettings
from recsys.data.id_map import IdMap
from recsys.data.image_decoding import decode_image
from recsys.errors import DataContractError, RecsysError
from recsys.types import FloatArray
from recsys.vectors.embeddings.table import EmbeddingTable, Storage
from recsys.vectors.index.flat import FlatIndex

COUNTED = """
import json, sys
from recsys.cli.app import main
from recsys.encoder.lazy_model import LazyModel
plain, calls = LazyModel.encode, []
LazyModel.encode = lambda self, *given: calls.append(1) or plain(self, *given)
code = main(["embed", "-C", sys.argv[1], "--json", "--quiet"])
print(json.dumps({"forward_passes": len(calls), "torch": "torch" in sys.modules}))
sys.exit(code)
"""
"""Every product that `embed` encodes goes through this method, up to 4096 at a time."""
SPREAD = 0.7
QUERIES, K = 500, 10
SIDE, SIZE = 600, 224


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=100_000, help="products of the made-up shop")
    parser.add_argument("--vectors", type=Path, metavar="NPY", help="(n, d) float32 to compare the storages on")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each time")
    parser.add_argument("--only", choices=["recsys"], help="leave out plain Pillow")
    parser.add_argument("--quick", action="store_true", help="few products, one round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


class Rows:
    """What has been measured."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, metric: str, values: list[float], part: str, *, system: str = "recsys") -> float:
        """The median, and the range as low and high."""
        low, value, high = min(values), statistics.median(values), max(values)
        row = {"system": system, "metric": metric, "value": value, "low": low, "high": high, "slice": part}
        self.all.append({key: round(held, 6) if isinstance(held, float) else held for key, held in row.items()})
        return value


def embed(shop: Path) -> dict[str, float]:
    """Run the command once.

    Raises:
        DataContractError: it failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", COUNTED, str(shop)], capture_output=True, text=True, check=False)
    spent, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise DataContractError(f"embed ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    report, counted = map(json.loads, done.stdout.splitlines()[-2:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": spent, "cpu_s": cpu, "encoded": report["counts"]["encoded"], **counted}


def commands(rows: Rows, asked: argparse.Namespace, shop: Path) -> dict[str, float]:
    """`embed` of an unchanged shop and of one with one new title, in turns."""
    say(f"making a shop of {asked.products:,} products")
    embed_shop.make(shop, asked.products, asked.seed)
    found: dict[str, list[dict[str, float]]] = {"unchanged": [], "one title": []}
    embed(shop)  # fills the database's own table
    for turn in range(asked.rounds):
        say(f"embed, round {turn + 1} of {asked.rounds}")
        found["unchanged"].append(embed(shop))
        with sqlite3.connect(shop / "recsys.db") as connection:
            connection.execute("UPDATE products SET title = ? WHERE product_id = '0000007'", (f"title {turn}",))
        found["one title"].append(embed(shop))
    for part, runs in found.items():
        for metric in ("seconds", "cpu_s", "encoded", "forward_passes", "torch"):
            rows.add(metric, [float(run[metric]) for run in runs], part)
    cpu = {part: statistics.median(run["cpu_s"] for run in runs) for part, runs in found.items()}
    return {"cpu_s unchanged / one title": cpu["unchanged"] / cpu["one title"]}


def grouped(n: int, dim: int, seed: int) -> FloatArray:
    """Products in groups of about 50 around drawn directions: (n, dim) float32 of unit length."""
    g = np.random.default_rng(seed)
    centres = g.normal(size=(max(2, n // 50), dim)).astype(np.float32)
    return unit(centres[g.integers(len(centres), size=n)] + SPREAD * g.normal(size=(n, dim)).astype(np.float32))


def unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def compared(asked: argparse.Namespace) -> FloatArray:
    """The vectors to compare the storages on."""
    if asked.vectors:
        return unit(np.load(asked.vectors, allow_pickle=False).astype(np.float32))
    return grouped(asked.products, 128, asked.seed)


def storages(rows: Rows, asked: argparse.Namespace, whole: FloatArray, folder: Path) -> dict[str, float]:
    """Size, speed and neighbours of each storage and of the first 64 and 32 numbers."""
    n, dim = whole.shape
    chosen = np.sort(np.random.default_rng(asked.seed).permutation(n)[:QUERIES])
    ids, hashes = IdMap(map(str, range(n))), np.zeros(n, np.uint64)
    kinds: list[tuple[str, int, Storage]] = [
        (f"{storage} {first}", first, storage)
        for first in dict.fromkeys((dim, *(size for size in (64, 32) if size < dim)))
        for storage in ("float32", "int8")
    ]
    size: dict[str, float] = {}
    for name, first, storage in kinds:
        EmbeddingTable(ids, unit(whole[:, :first]), hashes, "drawn", storage).save(folder / name)
        size[name] = sum(path.stat().st_size for path in (folder / name).glob("*.npy")) / n
        rows.add("bytes_per_vector", [size[name]], name)
    times: dict[str, dict[str, list[float]]] = {name: {"load_s": [], "queries_per_s": []} for name in size}
    lists = {}
    for turn in range(asked.rounds):
        say(f"storages, round {turn + 1} of {asked.rounds}")
        for name in size:
            started = time.perf_counter()
            vectors = np.ascontiguousarray(EmbeddingTable.load(folder / name).vectors)
            times[name]["load_s"].append(time.perf_counter() - started)
            started = time.perf_counter()
            found = FlatIndex(vectors).search(vectors[chosen], K + 1)[1]
            times[name]["queries_per_s"].append(len(chosen) / (time.perf_counter() - started))
            lists[name] = [[row for row in own if row != itself][:K] for own, itself in zip(found, chosen, strict=True)]
    true, out = lists[kinds[0][0]], {}
    for name in size:
        for metric, values in times[name].items():
            rows.add(metric, values, name)
        shares = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(true, lists[name], strict=True)]
        rows.add(f"recall@{K}", [float(np.mean(shares))], name)
        out[f"bytes {name} / {kinds[0][0]}"] = size[name] / size[kinds[0][0]]
    return out


def decoding(rows: Rows, asked: argparse.Namespace) -> dict[str, float]:
    """Pictures a second of processor time, ours and Pillow's `open`, `resize`, in turns."""
    from sklearn.datasets import load_sample_images

    files = []
    for photograph in load_sample_images().images:
        packed = BytesIO()
        Image.fromarray(photograph[:427, :427]).resize((SIDE, SIDE)).save(packed, "JPEG", quality=85)
        files.append(packed.getvalue())

    def plain(data: bytes) -> Any:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    settings = ImageSettings(size=SIZE)
    ways: dict[str, Callable[[bytes], Any]] = {"recsys": lambda data: decode_image(data, settings)}
    if not asked.only:
        ways["Pillow"] = plain
    speeds: dict[str, list[float]] = {system: [] for system in ways}
    for _ in range(asked.rounds + 1):
        for system, way in ways.items():
            started = time.process_time()
            for data in files * 10:
                way(data)
            speeds[system].append(10 * len(files) / (time.process_time() - started))
    found = {
        system: rows.add("pictures_per_cpu_s", values[1:], f"{SIDE} to {SIZE} pixels", system=system)
        for system, values in speeds.items()
    }
    return {} if asked.only else {"pictures_per_cpu_s recsys / Pillow": found["recsys"] / found["Pillow"]}


def main() -> int:
    asked = arguments()
    if asked.quick:
        asked.products, asked.rounds = min(asked.products, 300), 1
    rows = Rows()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            vectors = compared(asked)  # first: a file that cannot be read is told at once
            ratios = {
                **commands(rows, asked, folder / "shop"),
                **storages(rows, asked, vectors, folder),
                **decoding(rows, asked),
            }
        except (RecsysError, OSError, ValueError) as error:
            print(f"embed: {error}", file=sys.stderr)
            return getattr(error, "exit_code", 1)
    for row in rows.all:
        value, low, high = (f"{row[key]:,.3f}" for key in ("value", "low", "high"))
        print(f"{row['system']:8s} {row['slice']:18s} {row['metric']:20s} {value:>12s} [{low}, {high}]")
    if asked.json:
        shown = {"benchmark": "embed", "products": asked.products, "quick": asked.quick, "rounds": asked.rounds}
        shown["vectors"] = asked.vectors.name if asked.vectors else None
        ratios = {name: round(value, 4) for name, value in ratios.items()}
        print(json.dumps({**shown, "rows": rows.all, "ratios": ratios, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
