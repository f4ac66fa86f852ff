"""What each part is worth on H&M, complete the purchase: taken away one at a time, on customers of the training part.

In: what `hm.py --customers` takes. Out: NDCG@10 of everything, and without each source, the trees, the weights, the
vectors, the projection of content, the residual of ids. The ranker is fitted on one fifth of the training customers and
judged on another, and the other way round; the test customers are not looked at.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from hm import arguments, settings_for
from hm_shop import opened
from hm_systems import Lesson
from telling import machine, say

from recsys.config import RankerSettings, Settings
from recsys.evaluate.significance import bootstrap_interval
from recsys.evaluate.split import leave_last_of_test_users
from recsys.recommend.ranking import features
from recsys.recommend.ranking import linear as rank
from recsys.recommend.ranking import training as rehearsal
from recsys.recommend.ranking.training import build_examples
from recsys.types import BoolArray, DoubleArray, FloatArray, IntArray

Example = tuple[FloatArray, IntArray, BoolArray, int]
_EVERY = 100_000
"""More negatives than there are candidates: all are kept, since they are judged too."""

_DRAWN = 0.4
"""Share of the other candidates the ranker is fitted on."""


def gained(fold: Example, score: FloatArray, allowed: BoolArray) -> DoubleArray:
    """NDCG@10 of each case of a fold, 0 where the target is no candidate: (cases,)."""
    _, user, bought, cases = fold
    user, bought, score = user[allowed], bought[allowed], score[allowed]
    order = np.lexsort((np.arange(len(user)), -score, user))
    place = np.arange(len(order)) - np.searchsorted(user[order], user[order])
    hit = bought[order] & (place < 10)
    out = np.zeros(cases)
    out[user[order][hit]] = 1 / np.log2(place[hit] + 2)
    return out


def judged(
    folds: list[Example], sources: list[str], settings: Settings, *, without: str = "", how: str = "auto"
) -> DoubleArray:
    """NDCG@10 of the cases of both folds, each by a ranker of the other."""
    names = features.feature_names(sources)
    kept = [name for name in sources if name != without]
    columns = [at for at, name in enumerate(names) if not (without and name.startswith(f"{without}."))]
    proposed = [names.index(f"{name}.held") for name in kept]
    parts = []
    for learn, judge in ((0, 1), (1, 0)):
        x, user, bought, _ = folds[learn]
        allowed = x[:, proposed].any(axis=1)
        x, user, bought = x[allowed][:, columns], user[allowed], bought[allowed]
        ranker = fitted(x, user, bought, kept, settings, how=how)
        mine = folds[judge][0][:, proposed].any(axis=1)
        score = np.zeros(len(mine), np.float32)
        score[mine] = ranker.score(folds[judge][0][mine][:, columns])
        parts.append(gained(folds[judge], score, mine))
    return np.concatenate(parts)


def fitted(
    x: FloatArray,
    user: IntArray,
    bought: BoolArray,
    sources: list[str],
    settings: Settings,
    *,
    how: str,
) -> rank.Ranker:
    """Weights and trees as they are used, weights alone, or the blend that counts all sources the same."""
    if how == "equal":
        return rank.equal_weights(sources)
    has = np.isin(user, np.unique(user[bought]))
    x, user, bought = x[has], user[has], bought[has]
    seed = settings.training.seed
    drawn = bought | (np.random.default_rng(seed).random(len(user)) < _DRAWN)
    x, user, bought = x[drawn], user[drawn], bought[drawn]
    kind = RankerSettings(**{**settings.ranker.model_dump(), "kind": how})
    return rehearsal.fit_from_examples(x, user, bought, sources=sources, ranker=kind, seed=seed)


def main() -> int:
    asked = arguments(ablation=True)
    settings = settings_for(asked)
    sources = list(settings.recommend.sources)
    everything = RankerSettings(**{**settings.ranker.model_dump(), "negatives": _EVERY})
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        shop = opened(asked, work, settings.images)
        train, _ = leave_last_of_test_users(shop.interactions, shop.fifth())
        folder = work / "training" / f"customers-{asked.seed}{'-quick' if asked.quick else ''}"
        lesson = Lesson(shop, train, complete=True, settings=settings, folder=folder, say=say)
        rows = []

        def note(name: str, values: DoubleArray) -> None:
            low, high = bootstrap_interval(values, samples=settings.evaluate.bootstrap)
            rows.append(
                {
                    "system": name,
                    "metric": "ndcg@10",
                    "value": float(values.mean()),
                    "low": low,
                    "high": high,
                    "slice": "all",
                }
            )
            print(f"{name:40s} {values.mean():.4f} [{low:.4f}, {high:.4f}]", flush=True)

        def folds(kind: str) -> list[Example]:
            out = []
            for number, (cases, held) in enumerate(lesson.rehearsals(kind)):
                g = np.random.default_rng((asked.seed, 5, number))
                x, user, bought = build_examples(cases, held, rule_settings=settings.rules, ranker=everything, rng=g)
                out.append((x, user, bought, len(cases)))
            return out

        whole = folds("")
        note("recsys", judged(whole, sources, settings))
        note("weights alone, no trees", judged(whole, sources, settings, how="weights"))
        note("no ranker: sources count the same", judged(whole, sources, settings, how="equal"))
        for name in sources:
            note(f"without {name}", judged(whole, sources, settings, without=name))
        for kind, name in (
            ("vectors", "without the encoder's vectors"),
            ("content", "sequence without content"),
            ("residual", "sequence, residual of ids left out"),
        ):
            note(name, judged(folds(kind), sources, settings))
    if asked.json:
        own = rows[0]["value"]
        ratios = {str(row["system"]): round(float(row["value"]) / own, 4) for row in rows[1:]}
        result = {"benchmark": "hm_ablation", "quick": asked.quick, "seed": asked.seed, "rows": rows, "ratios": ratios}
        print(json.dumps({**result, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
