"""Online Retail: the last two weeks of a wholesaler's invoices, by the product line itself, from the dirty rows on.

In: the table of invoice lines. Out: a table; with --json one line of JSON at the end.

    python benchmarks/retail.py online_retail.parquet
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from telling import machine

import recsys
from recsys.errors import RecsysError

TEST_DAYS = 14
QUICK_LINES = 60_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="InvoiceNo StockCode Description Quantity InvoiceDate UnitPrice ...")
    parser.add_argument("--only", choices=["recsys"], help="leave out the plain systems")
    parser.add_argument("--quick", action="store_true", help="the last lines alone, hardly any training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def settings(asked: argparse.Namespace) -> dict[str, object]:
    """The defaults, but for what is held back and who is compared."""
    out: dict[str, object] = {"evaluate.test_days": TEST_DAYS, "training.seed": asked.seed}
    if asked.only:
        out["evaluate.models"] = ["recsys"]
    if asked.quick:
        out |= {
            "encoder.dim": 32,
            "encoder.width": 32,
            "encoder.heads": 2,
            "encoder.vocabulary": 1000,
            "training.epochs": 1,
            "training.user_epochs": 1,
            "training.min_steps": 1,
            "evaluate.bootstrap": 100,
        }
    return out


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = asked.file
        if asked.quick:
            file = folder / "lines.parquet"
            pl.read_parquet(asked.file).sort("InvoiceDate").tail(QUICK_LINES).write_parquet(file)
        try:
            recsys.init(folder / "shop")
            with recsys.open(folder / "shop", settings=settings(asked)) as shop:
                counts = shop.ingest([file], preset="online-retail").counts
                started = time.perf_counter()
                frame = shop.evaluate()
        except RecsysError as error:
            print(f"retail: {error}", file=sys.stderr)
            return error.exit_code
    seconds = round(time.perf_counter() - started, 1)
    shown = frame.filter(pl.col("metric").is_in(["ndcg@10", "hr@10", "map@12"]))
    for (part,), rows in shown.group_by("slice", maintain_order=True):
        print(f"{part} ({rows['users'][0]:,} customers)")
        for (name,), some in rows.group_by("system", maintain_order=True):
            cells = [f"{r['metric']} {r['value']:.4f} [{r['low']:.4f}, {r['high']:.4f}]" for r in some.to_dicts()]
            print(f"  {name:44s} {'  '.join(cells)}")
    if asked.json:
        whole = frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "ndcg@10"))
        value = dict(zip(whole["system"].to_list(), whole["value"].to_list(), strict=True))
        own = value.pop("recsys")
        result = {
            "benchmark": "retail",
            "quick": asked.quick,
            "seed": asked.seed,
            "rows": frame.with_columns(pl.col("value", "low", "high").fill_nan(None)).to_dicts(),
            "ratios": {f"ndcg@10 recsys / {name}": round(own / other, 4) for name, other in value.items() if other},
            "learned": {"counts": counts, "seconds": seconds},
            "machine": machine(),
        }
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
