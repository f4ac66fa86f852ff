"""Summarise the comparison of systems in one sentence.

In: the frames of `Evaluator.judge`. Out: which system is better, by how much, and whether that is significant.
"""

from __future__ import annotations

import math

import polars as pl

from recsys.evaluate.backtest import EvaluationResult

PRIMARY_METRIC = "ndcg@10"
SIGNIFICANCE_LEVEL = 0.05


def summary_line(result: EvaluationResult, *, ours: str = "recsys") -> str:
    """Compare `ours` with the best other system by NDCG@10 over all cases.

    Without `ours`, the two best systems are compared. The sentence says "beats" or "is behind" only if the 95 %
    interval of the difference excludes 0 and the sign-flip test has p < .05; else "no difference can be shown".
    """
    overall = result.metrics.filter((pl.col("slice") == "all") & (pl.col("metric") == PRIMARY_METRIC))
    value = dict(zip(overall["system"].to_list(), overall["value"].to_list(), strict=True))
    if len(value) < 2:
        (name,) = value
        return f"{name} alone: NDCG@10 {format_metric(value[name])}; nothing to compare it with"
    pairs = result.comparisons.filter((pl.col("slice") == "all") & (pl.col("metric") == PRIMARY_METRIC))
    system = str(pairs["system"][0])
    best = max((name for name in value if name != system), key=lambda name: value[name])
    row = pairs.filter(pl.col("other") == best).row(0, named=True)
    opponent = f"the best baseline ({best})" if system == ours else best
    difference = f"difference {format_metric(row['difference'])}"
    if math.isnan(row["low"]):
        return (
            f"{system} {format_metric(value[system])}, {best} {format_metric(value[best])} NDCG@10, {difference}; "
            "no interval was asked for"
        )
    difference += f" [{format_metric(row['low'])}, {format_metric(row['high'])}], {format_p_value(row['p_signflip'])}"
    significant = row["p_signflip"] < SIGNIFICANCE_LEVEL and (row["low"] > 0 or row["high"] < 0)
    if not significant:
        return f"no difference can be shown between {system} and {opponent} by NDCG@10: {difference}"
    share = f" by {abs(row['difference']) / value[best]:.0%} NDCG@10".replace("%", " %") if value[best] > 0 else ""
    return f"{system} {'beats' if row['difference'] > 0 else 'is behind'} {opponent}{share}, {difference}"


def format_metric(value: float) -> str:
    """Format a number with four decimals and without the leading zero: .0041, -.0003, 1.0000."""
    text = f"{value:.4f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def format_p_value(p: float) -> str:
    """Format a p value with three decimals: p = .012, p < .001."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
