"""Remove markup from texts of products, so that tags and scripts are not learned or searched as words.

In: texts. Out: the same without tags, scripts, styles and entities, with single spaces.
"""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

import polars as pl

MARKUP: Final = r"<[a-zA-Z/!?]|&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]*);"
"""Regular expression: the text has a tag, a comment or an entity."""
_HIDDEN: Final = frozenset({"script", "style", "template", "noscript", "svg", "head"})
_INLINE: Final = frozenset(
    "a abbr b bdi cite code em font i mark q s small span strong sub sup u wbr".split()  # noqa: SIM905
)


class _TextExtractor(HTMLParser):
    """Collects the visible text of a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Begin an element; the content of scripts and styles is hidden."""
        if tag in _HIDDEN:
            self._hidden.append(tag)
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Separate the texts around an empty element."""
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        """Collect visible text."""
        if not self._hidden:
            self.parts.append(data)


def strip_markup(text: str) -> str:
    """Return the visible text of HTML, entities decoded, white space folded.

    Text that was escaped twice (`&amp;amp;`, `&lt;p&gt;`), as some exports write it, is decoded twice.
    """
    for _ in range(2):
        extractor = _TextExtractor()
        extractor.feed(text)
        extractor.close()
        visible = "".join(extractor.parts)
        if visible == text or not ("<" in visible or "&" in visible):
            break
        text = visible
    return " ".join(visible.replace("\u00ad", "").split())


def clean_column(column: pl.Series) -> tuple[pl.Series, int]:
    """Strip markup from the texts that have some; also return their number.

    Args:
        column: (n,) String.
    """
    has_markup = column.str.contains(MARKUP).fill_null(value=False)
    n_texts = int(has_markup.sum())
    if not n_texts:
        return column, 0
    distinct = column.filter(has_markup).unique()
    cleaned = [strip_markup(text) or None for text in distinct.to_list()]
    replaced = column.replace_strict(
        distinct, pl.Series(cleaned, dtype=pl.String), default=column, return_dtype=pl.String
    )
    return replaced, n_texts
