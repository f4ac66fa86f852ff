"""The verdict in words: better than popularity or not, how sure, for how many users, and what to look at.

In: `ReportContent`. Out: `Summary`; every sentence follows from a number that stands further down in the report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recsys.report.content import ReportContent
from recsys.report.formatting import ago, format_p_value, measure, percent, pluralize
from recsys.report.measurements import Evaluation, Pair

METRIC, WHOLE = "ndcg@10", "all"
_LEVEL = 0.05
_OLD_DAYS = 14
_FEW_LISTED, _UNEVEN, _MOVED, _BLANK = 0.1, 0.9, 0.3, 0.3


@dataclass(frozen=True)
class Note:
    """Something to look at: a sentence and the section that shows it."""

    text: str
    section: str


@dataclass(frozen=True)
class Tile:
    """A number with its name and a word on it; `section` shows more."""

    name: str
    value: str
    about: str
    section: str


@dataclass(frozen=True)
class Summary:
    """What the report says first.

    Attributes:
        tone: "good", "open" or "bad".
        headline: one sentence.
        because: sentences with the figures.
        tiles: four numbers.
        look: what to look at, the most urgent first; empty = nothing.
    """

    tone: str
    headline: str
    because: tuple[str, ...]
    tiles: tuple[Tile, ...]
    look: tuple[Note, ...]


def verdict(content: ReportContent) -> Summary:
    """Judge what there is."""
    tone, headline, because = _judged(content.evaluation)
    return Summary(tone, headline, because, _tiles(content), tuple(_notes(content)))


def popularity(evaluation: Evaluation) -> Pair | None:
    """Ours against the better of the systems that list what is popular, None where neither was compared."""
    whole = [pair for pair in evaluation.pairs if (pair.slice, pair.metric) == (WHOLE, METRIC)]
    known = [pair for pair in whole if pair.other.startswith("popular") and pair.system == evaluation.ours]
    return min(known, key=lambda pair: pair.difference, default=None)


def strongest(evaluation: Evaluation) -> Pair | None:
    """Ours against the best of all other systems, None where ours was not compared."""
    whole = [pair for pair in evaluation.pairs if (pair.slice, pair.metric) == (WHOLE, METRIC)]
    return min(
        (pair for pair in whole if pair.system == evaluation.ours), key=lambda pair: pair.difference, default=None
    )


def is_significant(pair: Pair) -> bool:
    """Whether both the interval and the test say that there is a difference."""
    return pair.p < _LEVEL and (pair.low > 0 or pair.high < 0)


def value(evaluation: Evaluation, system: str, metric: str = METRIC, part: str = WHOLE) -> float:
    """A figure of a system, nan where it was not measured."""
    found = (one.value for one in evaluation.figures if (one.system, one.metric, one.slice) == (system, metric, part))
    return next(found, math.nan)


def _judged(found: Evaluation | None) -> tuple[str, str, tuple[str, ...]]:
    if found is None:
        return "open", "Whether it beats popularity is not known yet.", (
            "Nothing has been evaluated. Run recsys evaluate: it holds purchases back, learns without them, and "
            "compares our lists with those of plain systems on the same users.",
        )  # fmt: skip
    pair = popularity(found) if found.ours else None
    if pair is None:
        return "open", "Our lists were not compared with popularity.", (
            f"The last evaluation says: {found.said}. Leave recsys and popular among [evaluate] models.",
        )  # fmt: skip
    ours, theirs = value(found, pair.system), value(found, pair.other)
    apart = (
        f"NDCG@10 is {measure(ours)}, the most popular products ({pair.other}) reach {measure(theirs)}. On the same "
        f"{pluralize(pair.users, 'user')} the difference is {measure(pair.difference)}"
    )
    if math.isnan(pair.low):
        return "open", "How sure the difference to popularity is was not asked for.", (
            f"{apart}; set [evaluate] bootstrap above 0 for an interval.",
        )  # fmt: skip
    apart += f", 95 % interval {measure(pair.low)} to {measure(pair.high)}, {format_p_value(pair.p)}."
    said = f"Against the strongest plain system: {found.said}."
    if not is_significant(pair):
        return "open", "No difference to popularity can be shown.", (apart, said)
    if pair.difference < 0:
        return "bad", "Popularity does better than our lists.", (apart, said)
    times = ours / theirs if theirs > 0 else math.inf
    how = f", {times:.0f} times as good" if 2.5 <= times < 1000 else ""
    return "good", f"Yes, better than popularity{how}.", (apart, said)


def _tiles(content: ReportContent) -> tuple[Tile, ...]:
    lists, exposure, changes, judged = content.lists, content.exposure, content.changes, content.evaluation
    none = "–"
    covered = Tile("users with a list", none, "nothing is published", "lists")
    if lists is not None:
        share = lists.covered / lists.users if lists.users else math.nan
        covered = Tile("users with a list", percent(share), f"{lists.covered:,} of {lists.users:,}", "lists")
    shown = Tile("products shown", none, "nothing is published", "exposure")
    if exposure is not None:
        share = exposure.listed / exposure.sellable if exposure.sellable else math.nan
        about = f"{exposure.listed:,} of {exposure.sellable:,} sellable"
        shown = Tile("products shown", percent(share), about, "exposure")
    stayed = Tile("stayed since the last run", none, "there is no earlier run", "changes")
    if changes is not None and changes.overlap is not None:
        stayed = Tile(
            "stayed since the last run", percent(changes.overlap), f"of {pluralize(changes.users, 'list')}", "changes"
        )
    age = Tile("last evaluation", none, "run recsys evaluate", "figures")
    if judged is not None:
        fit = "today’s data" if judged.same_data else "earlier data"
        age = Tile("last evaluation", ago(judged.at, content.at), f"{judged.users:,} test users, {fit}", "figures")
    return covered, shown, stayed, age


def _notes(content: ReportContent) -> list[Note]:
    return [*_of_lists(content), *_of_evaluation(content), *_of_products(content), *_of_training(content)]


def _of_lists(content: ReportContent) -> list[Note]:
    lists, out = content.lists, list[Note]()
    if lists is None:
        return [Note("No lists are published; run recsys recommend.", "lists")]
    if lists.covered < lists.users:
        out.append(Note(f"{pluralize(lists.users - lists.covered, 'user')} have no list of their own.", "lists"))
    if lists.short:
        out.append(
            Note(f"{pluralize(lists.short, 'list')} are shorter than {lists.k}: the rules leave no more.", "lists")
        )
    changes = content.changes
    if changes is not None and changes.overlap is not None and changes.overlap < _MOVED:
        out.append(
            Note(f"Lists changed much: only {percent(changes.overlap)} of the last run’s products stayed.", "changes")
        )
    return out


def _of_evaluation(content: ReportContent) -> list[Note]:
    judged, out = content.evaluation, list[Note]()
    if judged is None:
        return [Note("Nothing has been evaluated; run recsys evaluate.", "figures")]
    if not judged.same_settings:
        out.append(Note("Settings have changed since the last evaluation; run recsys evaluate again.", "figures"))
    elif (content.at - judged.at) / 86_400 > _OLD_DAYS:
        out.append(Note(f"The last evaluation was {ago(judged.at, content.at)}; run recsys evaluate again.", "figures"))
    pair = popularity(judged)
    if pair is not None and not is_significant(pair):
        out.append(
            Note("The test is too small, or our lists too plain, to show a difference to popularity.", "figures")
        )
    best = strongest(judged)
    if best is not None and best is not pair and not (is_significant(best) and best.difference > 0):
        how = "is behind" if is_significant(best) else "shows no gain over"
        out.append(Note(f"{judged.ours} {how} the strongest plain system ({best.other}).", "figures"))
    return out


def _of_products(content: ReportContent) -> list[Note]:
    counts, out = dict(content.quality.counts), list[Note]()
    rejected = counts.get("rejected rows", 0)
    if rejected:
        out.append(Note(f"{pluralize(rejected, 'row')} of the shop’s data could not be used.", "quality"))
    products, pictured = counts.get("products", 0), counts.get("products with a picture", 0)
    if products and pictured < (1 - _BLANK) * products:
        out.append(
            Note(f"{pluralize(products - pictured, 'product')} of {products:,} have no usable picture.", "quality")
        )
    exposure = content.exposure
    if exposure is None:
        return out
    if exposure.sellable and exposure.listed < _FEW_LISTED * exposure.sellable:
        out.append(
            Note(f"Only {percent(exposure.listed / exposure.sellable)} of the products stand in a list.", "exposure")
        )
    if exposure.gini is not None and exposure.gini > _UNEVEN:
        out.append(
            Note(f"A few products take most places (Gini {exposure.gini:.2f}); see who is left out.", "exposure")
        )
    return out


def _of_training(content: ReportContent) -> list[Note]:
    if content.training is None:
        return [Note("There is no trained model; run recsys train.", "training")]
    last = {str(name): figure for name, figure in content.training.last.rows}
    alike = last.get("mean_cosine")
    if isinstance(alike, float) and alike > 0.9:
        return [Note(f"The product vectors are nearly all alike (mean cosine {alike:.2f}).", "training")]
    return []
