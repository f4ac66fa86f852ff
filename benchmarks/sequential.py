"""The next product of a sequence: leave-one-out, ranked among all products, the user's earlier ones masked.

In: a file of sequences ("user item item ..." or "user item" a line, in order of time), with attributes and names of the
items where there are any. Out: a table; with --json one line of JSON at the end.

    python benchmarks/sequential.py Beauty.txt --attributes Beauty_item2attributes.json --items Beauty_items.parquet

Everything is chosen on the second last product of each user; the last is looked at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peer_lists import add_peers, options, peer_lists
from sequential_data import Log, read
from sequential_systems import ours, plain
from telling import machine, say

from recsys.config import EncoderSettings, RankerSettings, RecommendSettings, RuleSettings, Settings, TrainingSettings
from recsys.errors import RecsysError
from recsys.evaluate import metrics
from recsys.evaluate import significance as intervals

QUICK_USERS = 600


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--attributes", type=Path, help="JSON: item to list of attribute ids")
    parser.add_argument("--items", type=Path, help="parquet: item_id, text_keywords, attribute_names")
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings; the mean is shown, low and high are the extremes"
    )
    parser.add_argument("--only", choices=["recsys"], help="leave out the plain systems, the single sources, the peers")
    add_peers(parser)
    parser.add_argument("--quick", action="store_true", help="few users, hardly any training")
    parser.add_argument("--work", type=Path, help="keep checkpoints here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def settings_for(seed: int, *, quick: bool) -> Settings:
    """The defaults, but for the rule of the protocol: what a user had is masked, so nothing is bought again."""
    rules = RuleSettings(seen="exclude")
    sources = [name for name in RecommendSettings().sources if name not in ("repurchase", "fresh")]
    if quick:
        return Settings(
            rules=rules,
            recommend=RecommendSettings(sources=sources),
            encoder=EncoderSettings(dim=32, width=32, heads=2, fusion_layers=1, user_layers=1, vocabulary=500),
            training=TrainingSettings(seed=seed, epochs=1, user_epochs=1, min_steps=1),
            ranker=RankerSettings(candidates=50),
        )
    return Settings(
        rules=rules,
        recommend=RecommendSettings(sources=sources, ease_products=25_000),
        training=TrainingSettings(seed=seed, user_epochs=30),
        ranker=RankerSettings(candidates=150, max_users=12_000),
    )


def judged(log: Log, lists: np.ndarray) -> dict[str, metrics.Values]:
    found, size = metrics.hit_matrix(lists, log.test.targets), metrics.target_counts(log.test.targets)
    return {"ndcg@10": metrics.ndcg(found, size, 10), "hr@10": metrics.hit_rate(found, 10)}


def main() -> int:
    asked = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            log = read(
                asked.file,
                attributes=asked.attributes,
                items=asked.items,
                most_users=QUICK_USERS if asked.quick else None,
            )
            say(f"{log.train.n_users:,} users, {len(log.catalogue):,} products, {len(log.test):,} cases")
            found: dict[str, list[dict[str, metrics.Values]]] = {}
            if not asked.only:
                for name, system in plain(log, ease_products=25_000).items():
                    found[name] = [judged(log, system(log.test.histories, 10))]
                    say(f"{name}: {found[name][0]['ndcg@10'].mean():.4f}")
            peers: dict[str, object] = {}
            if asked.peers and not asked.only:
                made, peers = peer_lists(
                    asked.peers,
                    log.train,
                    log.test.histories,
                    k=10,
                    exclude_seen=True,
                    folder=(asked.work or Path(temporary)) / "peers",
                    options=options(asked),
                    say=say,
                )
                for name, lists in made.items():
                    found[name] = [judged(log, lists)]
                    say(f"{name}: {found[name][0]['ndcg@10'].mean():.4f}")
            learned: list[dict[str, object]] = []
            for seed in range(asked.seeds):
                folder = (asked.work or Path(temporary)) / f"{asked.file.stem}-{seed}{'-quick' if asked.quick else ''}"
                started = time.perf_counter()
                systems, facts = ours(
                    log,
                    settings_for(seed, quick=asked.quick),
                    folder=folder,
                    say=say,
                    singles=not (asked.only or seed),  # of the first training; they vary less than ours
                )
                for name, lists in systems.items():
                    found.setdefault(name, []).append(judged(log, lists))
                    say(f"{name}: {found[name][-1]['ndcg@10'].mean():.4f}")
                learned.append({**facts, "seconds": round(time.perf_counter() - started, 1)})
        except RecsysError as error:
            print(f"sequential: {error}", file=sys.stderr)
            return error.exit_code
    rows = [row for name, runs in found.items() for row in summed_up(name, runs)]
    for row in rows:
        print(f"{row['system']:34s} {row['metric']:8s} {row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]")
    if asked.json:
        own = {row["system"]: row["value"] for row in rows if row["metric"] == "ndcg@10"}
        mine = own.pop("recsys")
        ratios = {f"ndcg@10 recsys / {name}": round(mine / value, 4) for name, value in own.items() if value}
        shown = {"benchmark": "sequential", "file": asked.file.name, "quick": asked.quick, "seeds": asked.seeds}
        print(
            json.dumps(
                {**shown, "rows": rows, "ratios": ratios, "learned": learned, "peers": peers, "machine": machine()}
            )
        )
    return 0


def summed_up(name: str, runs: list[dict[str, metrics.Values]]) -> list[dict[str, object]]:
    """The mean over seeds; between the extremes of the seeds, or with one seed the 95 % interval over users."""
    out: list[dict[str, object]] = []
    for metric in runs[0]:
        means = [float(run[metric].mean()) for run in runs]
        low, high = (
            (min(means), max(means)) if len(runs) > 1 else intervals.bootstrap_interval(runs[0][metric], samples=500)
        )
        value = float(np.mean(means))
        out.append({"system": name, "metric": metric, "value": value, "low": low, "high": high, "slice": "all"})
    return out


if __name__ == "__main__":
    sys.exit(main())
