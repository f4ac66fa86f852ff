"""Summarise the report: better than popularity or not, significance, coverage, and points to check.

In: `ReportContent`. Out: `Summary`; every sentence follows from a number further down in the report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recsys.report.content import ReportContent
from recsys.report.formatting import format_age, format_metric, format_p_value, format_percent, pluralize
from recsys.report.measurements import Evaluation, Pair

PRIMARY_METRIC = "ndcg@10"
ALL_USERS = "all"
_LEVEL = 0.05
_MAX_EVALUATION_DAYS = 14
_MIN_COVERAGE, _MAX_GINI, _MIN_OVERLAP, _MAX_WITHOUT_IMAGE = 0.1, 0.9, 0.3, 0.3
_MAX_MEAN_COSINE = 0.9


@dataclass(frozen=True)
class Note:
    """A point to check: a sentence and the id of the section that shows it."""

    text: str
    section: str


@dataclass(frozen=True)
class Tile:
    """A number with its name and an explanation; `section` is the id of the section with details."""

    name: str
    value: str
    about: str
    section: str


@dataclass(frozen=True)
class Summary:
    """The first section of the report.

    Attributes:
        tone: "good", "open" or "bad".
        headline: one sentence.
        because: sentences with the numbers behind it.
        tiles: four key numbers.
        look: points to check, most urgent first; may be empty.
    """

    tone: str
    headline: str
    because: tuple[str, ...]
    tiles: tuple[Tile, ...]
    look: tuple[Note, ...]


def summarize(content: ReportContent) -> Summary:
    """Summarise the content."""
    tone, headline, because = _summarize_evaluation(content.evaluation)
    return Summary(tone, headline, because, _create_tiles(content), tuple(_create_notes(content)))


def compare_with_popularity(evaluation: Evaluation) -> Pair | None:
    """Return the comparison with the better popularity baseline, None if there is none."""
    pairs = [pair for pair in evaluation.pairs if (pair.slice, pair.metric) == (ALL_USERS, PRIMARY_METRIC)]
    popular = [pair for pair in pairs if pair.other.startswith("popular") and pair.system == evaluation.ours]
    return min(popular, key=lambda pair: pair.difference, default=None)


def compare_with_best(evaluation: Evaluation) -> Pair | None:
    """Return the comparison with the best other system, None if the recommender was not compared."""
    pairs = [pair for pair in evaluation.pairs if (pair.slice, pair.metric) == (ALL_USERS, PRIMARY_METRIC)]
    return min(
        (pair for pair in pairs if pair.system == evaluation.ours), key=lambda pair: pair.difference, default=None
    )


def is_significant(pair: Pair) -> bool:
    """Whether the interval excludes 0 and the p value is below 0.05."""
    return pair.p < _LEVEL and (pair.low > 0 or pair.high < 0)


def metric_value(
    evaluation: Evaluation, system: str, metric: str = PRIMARY_METRIC, slice_name: str = ALL_USERS
) -> float:
    """Return a metric value of a system, NaN if it was not measured."""
    values = (
        row.value for row in evaluation.figures if (row.system, row.metric, row.slice) == (system, metric, slice_name)
    )
    return next(values, math.nan)


def _summarize_evaluation(evaluation: Evaluation | None) -> tuple[str, str, tuple[str, ...]]:
    """Return tone, headline and the sentences with the numbers."""
    if evaluation is None:
        return "open", "Whether it beats popularity is not known yet.", (
            "There is no evaluation. Run recsys evaluate: it holds out purchases, trains without them, and compares "
            "the recommendations with those of baselines for the same users.",
        )  # fmt: skip
    pair = compare_with_popularity(evaluation) if evaluation.ours else None
    if pair is None:
        return "open", "The recommendations were not compared with popularity.", (
            f"Result of the last evaluation: {evaluation.said}. Keep recsys and popular in [evaluate] models.",
        )  # fmt: skip
    our_value, popular_value = metric_value(evaluation, pair.system), metric_value(evaluation, pair.other)
    numbers = (
        f"NDCG@10 is {format_metric(our_value)}, the most popular products ({pair.other}) reach "
        f"{format_metric(popular_value)}. "
        f"On the same {pluralize(pair.users, 'user')} the difference is {format_metric(pair.difference)}"
    )
    if math.isnan(pair.low):
        return "open", "The difference to popularity has no confidence interval.", (
            f"{numbers}; set [evaluate] bootstrap above 0 for an interval.",
        )  # fmt: skip
    numbers += f", 95 % interval {format_metric(pair.low)} to {format_metric(pair.high)}, {format_p_value(pair.p)}."
    strongest_text = f"Against the strongest baseline: {evaluation.said}."
    if not is_significant(pair):
        return "open", "No difference to popularity can be shown.", (numbers, strongest_text)
    if pair.difference < 0:
        return "bad", "Popularity does better than the recommender.", (numbers, strongest_text)
    ratio = our_value / popular_value if popular_value > 0 else math.inf
    ratio_text = f", {ratio:.0f} times as good" if 2.5 <= ratio < 1000 else ""
    return "good", f"Yes, better than popularity{ratio_text}.", (numbers, strongest_text)


def _create_tiles(content: ReportContent) -> tuple[Tile, ...]:
    lists, exposure, changes, evaluation = content.lists, content.exposure, content.changes, content.evaluation
    none = "–"
    covered = Tile("users with a list", none, "nothing is published", "lists")
    if lists is not None:
        share = lists.covered / lists.users if lists.users else math.nan
        covered = Tile("users with a list", format_percent(share), f"{lists.covered:,} of {lists.users:,}", "lists")
    shown = Tile("products shown", none, "nothing is published", "exposure")
    if exposure is not None:
        share = exposure.listed / exposure.sellable if exposure.sellable else math.nan
        about = f"{exposure.listed:,} of {exposure.sellable:,} sellable"
        shown = Tile("products shown", format_percent(share), about, "exposure")
    overlap = Tile("unchanged since the last run", none, "there is no earlier run", "changes")
    if changes is not None and changes.overlap is not None:
        about = f"of {pluralize(changes.users, 'list')}"
        overlap = Tile("unchanged since the last run", format_percent(changes.overlap), about, "changes")
    age = Tile("last evaluation", none, "run recsys evaluate", "figures")
    if evaluation is not None:
        data = "today’s data" if evaluation.same_data else "earlier data"
        about = f"{evaluation.users:,} test users, {data}"
        age = Tile("last evaluation", format_age(evaluation.at, content.at), about, "figures")
    return covered, shown, overlap, age


def _create_notes(content: ReportContent) -> list[Note]:
    return [*_check_lists(content), *_check_evaluation(content), *_check_products(content), *_check_training(content)]


def _check_lists(content: ReportContent) -> list[Note]:
    lists, out = content.lists, list[Note]()
    if lists is None:
        return [Note("No recommendations are published; run recsys recommend.", "lists")]
    if lists.covered < lists.users:
        out.append(Note(f"{pluralize(lists.users - lists.covered, 'user')} have no personal list.", "lists"))
    if lists.short:
        out.append(
            Note(f"{pluralize(lists.short, 'list')} are shorter than {lists.k}: the rules allow no more.", "lists")
        )
    changes = content.changes
    if changes is not None and changes.overlap is not None and changes.overlap < _MIN_OVERLAP:
        out.append(
            Note(
                f"Lists changed much: only {format_percent(changes.overlap)} of the last run’s products remain.",
                "changes",
            )
        )
    return out


def _check_evaluation(content: ReportContent) -> list[Note]:
    evaluation, out = content.evaluation, list[Note]()
    if evaluation is None:
        return [Note("There is no evaluation; run recsys evaluate.", "figures")]
    if not evaluation.same_settings:
        out.append(Note("Settings have changed since the last evaluation; run recsys evaluate again.", "figures"))
    elif (content.at - evaluation.at) / 86_400 > _MAX_EVALUATION_DAYS:
        age = format_age(evaluation.at, content.at)
        out.append(Note(f"The last evaluation was {age}; run recsys evaluate again.", "figures"))
    pair = compare_with_popularity(evaluation)
    if pair is not None and not is_significant(pair):
        out.append(
            Note("The test is too small, or the lists too similar, to show a difference to popularity.", "figures")
        )
    best = compare_with_best(evaluation)
    if best is not None and best is not pair and not (is_significant(best) and best.difference > 0):
        relation = "is behind" if is_significant(best) else "shows no gain over"
        out.append(Note(f"{evaluation.ours} {relation} the strongest baseline ({best.other}).", "figures"))
    return out


def _check_products(content: ReportContent) -> list[Note]:
    counts, out = dict(content.quality.counts), list[Note]()
    rejected = counts.get("rejected rows", 0)
    if rejected:
        out.append(Note(f"{pluralize(rejected, 'row')} of the shop’s data could not be used.", "quality"))
    products, with_image = counts.get("products", 0), counts.get("products with a picture", 0)
    if products and with_image < (1 - _MAX_WITHOUT_IMAGE) * products:
        out.append(
            Note(f"{pluralize(products - with_image, 'product')} of {products:,} have no usable image.", "quality")
        )
    exposure = content.exposure
    if exposure is None:
        return out
    if exposure.sellable and exposure.listed < _MIN_COVERAGE * exposure.sellable:
        out.append(
            Note(
                f"Only {format_percent(exposure.listed / exposure.sellable)} of the products are in a list.", "exposure"
            )
        )
    if exposure.gini is not None and exposure.gini > _MAX_GINI:
        out.append(Note(f"A few products take most list positions (Gini {exposure.gini:.2f}).", "exposure"))
    return out


def _check_training(content: ReportContent) -> list[Note]:
    if content.training is None:
        return [Note("There is no trained model; run recsys train.", "training")]
    last = {str(name): value for name, value in content.training.last.rows}
    mean_cosine = last.get("mean_cosine")
    if isinstance(mean_cosine, float) and mean_cosine > _MAX_MEAN_COSINE:
        return [Note(f"The product vectors are nearly identical (mean cosine {mean_cosine:.2f}).", "training")]
    return []
