"""Offline evaluation: hold back the last days, learn without them, recommend, compare with plain systems.

In: a Bench. Out: a table of systems and metrics with 95 % intervals; its models are trained aside, never put to use.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from recsys.data.interactions import Histories, Interactions
from recsys.evaluate import backtest, baselines, split
from recsys.pipeline.bench import Bench
from recsys.pipeline.lesson import Lesson
from recsys.pipeline.report import Report, Table
from recsys.pipeline.training import trainable
from recsys.recommend.recommender import Recommender


def evaluate(bench: Bench) -> Report:
    """Compare ours with popularity of the last 7 days, repurchase, item-item and TF-IDF."""
    frame = judged(bench)
    return Report(
        "evaluate",
        counts={"test_users": int(frame["users"].to_numpy().max())},
        tables=[_wide(frame), Table.of("by slice", frame), bench.times()],
    )


def judged(bench: Bench) -> pl.DataFrame:
    """The same as a frame: system, slice, metric, value, low, high, users.

    Raises:
        UsageError: nobody bought anything in the test days, or nothing was before them.
    """
    settings, dataset = bench.settings, bench.dataset
    trainable(dataset)
    cut = split.last_days(dataset.interactions, settings.evaluate.test_days)
    before, cases = split.time_split(
        dataset.interactions, cut, max_users=settings.evaluate.max_users, seed=settings.training.seed
    )
    ours = _learned(bench, before, now=cut)

    def ours_ranked(histories: Histories, k: int) -> npt.NDArray[np.int64]:
        return ours.ranked(histories, k)

    with bench.watch.stage("compare"):
        return backtest.backtest(
            cases,
            {**_plain(bench, before, now=cut), "recsys": ours_ranked},
            catalogue=dataset.catalogue,
            train=before,
            k=settings.evaluate.k,
            samples=settings.evaluate.bootstrap,
            seed=settings.training.seed,
        )


def _learned(bench: Bench, before: Interactions, *, now: int) -> Recommender:
    settings, catalogue = bench.settings, bench.dataset.catalogue
    lesson = Lesson(bench, catalogue, before, settings.artifacts / "evaluation")
    model, table = lesson.encoder()
    blend = lesson.ranker(model, table.vectors)
    lesson.done()
    return Recommender.assemble(
        catalogue,
        before,
        model=model,
        content=table.vectors,
        blend=blend,
        recommend=settings.recommend,
        rules=settings.rules,
        users=bench.dataset.users,
        now=now,
    )


def _plain(bench: Bench, before: Interactions, *, now: int) -> Mapping[str, baselines.System]:
    catalogue, days = bench.dataset.catalogue, bench.settings.recommend.popular_days
    scorers = {
        f"popular-{days:g}d": baselines.popular(before, days=days, now=now),
        "repurchase": baselines.repurchase(len(catalogue)),
        "item-item": baselines.item_item(before),
        "tf-idf": baselines.tfidf(catalogue),
    }
    return {
        name: baselines.ranked(scorer, exclude_seen=name != "repurchase", allowed=catalogue.sellable)
        for name, scorer in scorers.items()
    }


def _wide(frame: pl.DataFrame) -> Table:
    """One row a system: the figures over all test users with their intervals."""
    whole = frame.filter(pl.col("slice") == "all")
    metrics = whole["metric"].unique(maintain_order=True).to_list()
    rows = []
    for name in whole["system"].unique(maintain_order=True).to_list():
        cells: list[str] = []
        for metric in metrics:
            row = whole.filter((pl.col("system") == name) & (pl.col("metric") == metric)).row(0, named=True)
            cells.append(f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]")
        rows.append((name, *cells))
    return Table("all test users, value [95 % interval]", ("system", *metrics), rows)
