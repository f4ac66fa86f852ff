"""H&M purchases, two protocols: what will be bought after a date, and the product that completes a purchase.

In: articles, transactions, pictures by path. Out: a table; with --json one line of JSON at the end.

    python benchmarks/hm.py --articles FILE --transactions FILE... --images ZIP... --cut 2020-09-21
    python benchmarks/hm.py --articles FILE --transactions FILE... --images ZIP... --customers
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from hm_shop import add_files, opened
from hm_systems import ours, plain, read_aloud
from peer_lists import add_peers, as_system, options, peer_lists
from telling import machine, say

from recsys.config import EncoderSettings, RankerSettings, RuleSettings, Settings, TrainingSettings
from recsys.data import tfidf as words
from recsys.data.holdout import time_split
from recsys.errors import RecsysError
from recsys.evaluate.backtest import backtest
from recsys.evaluate.split import leave_last_of_test_users

SLICES = ("all", "with_history", "no_history", "unseen_products", "rare_products", "pictured_products")
BALANCES = ((0.1, 0.0), (0.3, 0.0), (0.0, 0.1), (0.0, 0.3))
"""Weights of diversity and calibration."""


def arguments(*, ablation: bool = False) -> argparse.Namespace:
    """The command line; an ablation has one protocol and no other systems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_files(parser, pictures=False)
    way = parser.add_mutually_exclusive_group(required=not ablation)
    way.add_argument("--cut", help="first day of the test, YYYY-MM-DD")
    way.add_argument("--customers", action="store_true", help="complete the purchase, a fifth of the customers")
    way.add_argument("--test-transactions", type=Path, help="complete the purchase, all customers of this file")
    parser.add_argument("--only", choices=["recsys"], help="leave out the plain systems and the peers")
    if not ablation:
        add_peers(parser)
        parser.add_argument("--read", type=int, default=0, metavar="N", help="print lists of N customers, to be read")
        parser.add_argument("--balances", action="store_true", help="also lists with diversity, with calibration")
    parser.add_argument("--quick", action="store_true", help="few customers, hardly any training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="keep pictures and checkpoints here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def settings_for(asked: argparse.Namespace) -> Settings:
    """The defaults, but for two things.

    Purchases are completed with something new, so what was bought is left out there. The log is mostly one week, of
    which the ranker gets the last two days as its windows.
    """
    rules = RuleSettings() if asked.cut else RuleSettings(seen="exclude")
    if not asked.quick:
        ranker = RankerSettings(window_fraction=0.3)
        return Settings(rules=rules, training=TrainingSettings(seed=asked.seed), ranker=ranker)
    return Settings(
        rules=rules,
        encoder=EncoderSettings(dim=32, width=32, heads=2, fusion_layers=1, user_layers=1, vocabulary=1000),
        training=TrainingSettings(seed=asked.seed, epochs=1, user_epochs=1, min_steps=1),
        ranker=RankerSettings(candidates=50),
    )


def run(asked: argparse.Namespace, work: Path) -> tuple[pl.DataFrame, dict[str, object]]:
    """Judge every system; the frame of `backtest`, and what was learned."""
    settings = settings_for(asked)
    say("read")
    shop = opened(asked, work, settings.images, test=asked.test_transactions)
    if asked.cut:
        train, cases = time_split(shop.interactions, int(np.datetime64(asked.cut, "s").astype(np.int64)))
    else:
        train, cases = leave_last_of_test_users(
            shop.interactions, shop.fifth() if asked.customers else shop.of_test_file
        )
    say(f"{len(shop.catalogue):,} products, {len(train):,} events to learn from, {len(cases):,} cases")
    systems = {} if asked.only else plain(shop, train, now=cases.now, exclude_seen=not asked.cut)
    started = time.perf_counter()
    way = asked.cut or ("customers" if asked.customers else asked.test_transactions.stem)
    folder = work / "training" / f"{way}-{asked.seed}{'-quick' if asked.quick else ''}"
    own, recommender, learned = ours(
        shop,
        train,
        now=cases.now,
        complete=not asked.cut,
        settings=settings,
        folder=folder,
        say=say,
        balances=BALANCES if asked.balances else (),
    )
    systems |= own
    for line in read_aloud(recommender, cases, asked.read, seed=asked.seed):
        print(line)
    learned["train_s"] = round(time.perf_counter() - started, 1)
    if asked.peers and not asked.only:
        # Where customers buy again, lists are judged without their own products too, so those must be longer by that.
        known = cases.histories
        lists, learned["peers"] = peer_lists(
            asked.peers,
            train,
            known,
            k=12 + (known.items.shape[1] if asked.cut else 0),
            exclude_seen=not asked.cut,
            folder=work / "peers",
            options=options(asked),
            say=say,
        )
        systems |= {name: as_system(found, known, train, now=cases.now) for name, found in lists.items()}
    say("judge")
    frame = backtest(
        cases,
        systems,
        catalogue=shop.catalogue,
        train=train,
        k=12,
        samples=settings.evaluate.bootstrap,
        seed=asked.seed,
        content=words.product_tfidf(shop.catalogue),
    )
    return frame, learned


def ratios(frame: pl.DataFrame) -> dict[str, float]:
    """Ours divided by each plain system, NDCG@10 over all cases."""
    whole = frame.filter((pl.col("slice") == "all") & (pl.col("metric") == "ndcg@10"))
    value = dict(zip(whole["system"].to_list(), whole["value"].to_list(), strict=True))
    own = value.pop("recsys")
    value = {name: other for name, other in value.items() if not name.startswith("recsys")}
    return {f"ndcg@10 recsys / {name}": round(own / other, 4) for name, other in value.items() if other > 0}


def table(frame: pl.DataFrame) -> str:
    """Rows for people: NDCG@10 with its interval by slice, then the other metrics over all cases."""
    lines = []
    for part in (name for name in SLICES if name in frame["slice"].to_list()):
        rows = frame.filter(
            (pl.col("slice") == part) & pl.col("metric").str.contains("ndcg|hr|map|^diversity|^category")
        )
        lines.append(f"{part} ({rows['users'][0]:,} customers)")
        for (name,), some in rows.group_by("system", maintain_order=True):
            cells = [
                f"{row['metric']} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
                for row in some.iter_rows(named=True)
            ]
            lines.append(f"  {name:44s} {'  '.join(cells)}")
    return "\n".join(lines)


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            frame, learned = run(asked, asked.work or Path(temporary))
        except RecsysError as error:
            print(f"hm: {error}", file=sys.stderr)
            return error.exit_code
    print(table(frame))
    if asked.json:
        protocol = f"time split at {asked.cut}" if asked.cut else "complete the purchase"
        # NaN is no JSON: a slice without an interval has null there
        rows = frame.with_columns(pl.col("value", "low", "high").fill_nan(None)).to_dicts()
        shown = {"benchmark": "hm", "protocol": protocol, "quick": asked.quick, "seed": asked.seed}
        print(json.dumps({**shown, "rows": rows, "ratios": ratios(frame), "learned": learned, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
