from __future__ import annotations

import polars as pl
import pytest

from recsys.evaluate.backtest import COMPARISON_SCHEMA, METRIC_SCHEMA, EvaluationResult
from recsys.evaluate.summary import format_metric, format_p_value, summary_line


def judged(values, *, first="recsys", p=0.0001, width=0.001):
    """What `Judge` gives for NDCG@10 of some systems."""
    rows = [(name, "all", "ndcg@10", value, value, value, 9) for name, value in values.items()]
    pairs = [
        ("all", "ndcg@10", first, name, apart, apart - width, apart + width, p, p, 9)
        for name, apart in ((name, values[first] - value) for name, value in values.items() if name != first)
    ]
    return EvaluationResult(
        pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row"),
        pl.DataFrame(pairs, schema=COMPARISON_SCHEMA, orient="row"),
    )


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            judged({"item-item": 0.0342, "popular": 0.01, "recsys": 0.0383}),
            "recsys beats the best baseline (item-item) by 12 % NDCG@10, difference .0041 [.0031, .0051], p < .001",
        ),
        (
            judged({"item-item": 0.04, "recsys": 0.03}, p=0.0123),
            "recsys is behind the best baseline (item-item) by 25 % NDCG@10, "
            "difference -.0100 [-.0110, -.0090], p = .012",
        ),
        (
            judged({"als": 0.03, "recsys": 0.0305}, p=0.4),
            "no difference can be shown between recsys and the best baseline (als) by NDCG@10: "
            "difference .0005 [-.0005, .0015], p = .400",
        ),
        (
            judged({"als": 0.03, "recsys": 0.0305}),  # the two tests disagree
            "no difference can be shown between recsys and the best baseline (als) by NDCG@10: "
            "difference .0005 [-.0005, .0015], p < .001",
        ),
        (
            judged({"als": 0.04, "ease": 0.02, "popular": 0.01}, first="als"),
            "als beats ease by 100 % NDCG@10, difference .0200 [.0190, .0210], p < .001",
        ),
        (
            judged({"popular": 0.0, "recsys": 0.5}),
            "recsys beats the best baseline (popular), difference .5000 [.4990, .5010], p < .001",
        ),
        (
            judged({"popular": 0.1, "recsys": 0.2}, width=float("nan"), p=float("nan")),
            "recsys .2000, popular .1000 NDCG@10, difference .1000; no interval was asked for",
        ),
        (judged({"recsys": 0.2}), "recsys alone: NDCG@10 .2000; nothing to compare it with"),
    ],
)
def test_the_verdict_in_words(held, said):
    assert summary_line(held) == said


def test_figures_are_short():
    assert [format_metric(value) for value in (0.00412, -0.25, 1.0, 0.0)] == [".0041", "-.2500", "1.0000", ".0000"]
    assert [format_p_value(p) for p in (0.0009, 0.001, 0.05, 1.0)] == ["p < .001", "p = .001", "p = .050", "p = 1.000"]
