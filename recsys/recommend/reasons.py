"""Why a product stands in a list, in words that are true: by the source that weighed most, because of what.

In: source names, products. Out: one sentence a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

SENTENCES: dict[str, Callable[[str], str]] = {
    "sequence": lambda _: "fits what you bought lately",
    "repurchase": lambda _: "you bought this before",
    "co_purchase": lambda title: f"often bought together with {title}",
    "content": lambda title: f"because you bought {title}",
}
POPULAR, BESTSELLER, FILL = "popular this week", "a bestseller", "from our range"


def sentence(source: str, *, title: str | None, recent: bool, ever: bool) -> str:
    """Put a reason into words.

    Args:
        source: the source that weighed most; "popular" for what fills a list.
        title: title of the product it stems from, None where there is none.
        recent: was the product itself sold within the days that count for 'popular'.
        ever: was it ever sold.
    """
    if source == "popular" or source not in SENTENCES:
        return POPULAR if recent else BESTSELLER if ever else FILL
    if source in ("co_purchase", "content") and title is None:
        return "fits what you bought lately"
    return SENTENCES[source](title or "")


def sentences(
    sources: Sequence[str], titles: Sequence[str | None], *, recent: Sequence[bool], ever: Sequence[bool]
) -> list[str]:
    """One sentence a row."""
    return [
        sentence(source, title=title, recent=lately, ever=sold)
        for source, title, lately, sold in zip(sources, titles, recent, ever, strict=True)
    ]
