"""The comparison in one line of words.

In: the frames of `backtest.Judge`. Out: who is ahead of whom, by how much, how sure.
"""

from __future__ import annotations

import math

import polars as pl

from recsys.evaluate.backtest import EvaluationResult

METRIC = "ndcg@10"
LEVEL = 0.05


def summary_line(judged: EvaluationResult, *, ours: str = "recsys") -> str:
    """Ours against the best other system by NDCG@10 over all cases; the two best ones when ours is not there.

    "Beats" and "is behind" are said when both the 95 % interval of the difference leaves out 0 and the sign-flip test
    has p < .05; else "no difference can be shown".
    """
    whole = judged.frame.filter((pl.col("slice") == "all") & (pl.col("metric") == METRIC))
    value = dict(zip(whole["system"].to_list(), whole["value"].to_list(), strict=True))
    if len(value) < 2:
        (name,) = value
        return f"{name} alone: NDCG@10 {short(value[name])}; nothing to compare it with"
    pairs = judged.paired.filter((pl.col("slice") == "all") & (pl.col("metric") == METRIC))
    one = str(pairs["system"][0])
    best = max((name for name in value if name != one), key=lambda name: value[name])
    row = pairs.filter(pl.col("other") == best).row(0, named=True)
    against = f"the best baseline ({best})" if one == ours else best
    measured = f"difference {short(row['difference'])}"
    if math.isnan(row["low"]):
        return f"{one} {short(value[one])}, {best} {short(value[best])} NDCG@10, {measured}; no interval was asked for"
    measured += f" [{short(row['low'])}, {short(row['high'])}], {format_p_value(row['p_signflip'])}"
    sure = row["p_signflip"] < LEVEL and (row["low"] > 0 or row["high"] < 0)
    if not sure:
        return f"no difference can be shown between {one} and {against} by NDCG@10: {measured}"
    share = f" by {abs(row['difference']) / value[best]:.0%} NDCG@10".replace("%", " %") if value[best] > 0 else ""
    return f"{one} {'beats' if row['difference'] > 0 else 'is behind'} {against}{share}, {measured}"


def short(value: float) -> str:
    """Four decimals without the leading zero: .0041, -.0003, 1.0000."""
    text = f"{value:.4f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def format_p_value(p: float) -> str:
    """A p value in three decimals: p = .012, p < .001."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
