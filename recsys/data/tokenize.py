"""The tokenizer of encoder, candidate sources, lexical search, attribute completion and TF-IDF baseline.

In: a text in any script. Out: its tokens, in order.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_ARABIC_ARTICLE: Final = "\u0627\u0644"
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese: no spaces between words; Korean: particles stay on the word."""


class _CharacterMap(dict[int, str]):
    """Translation table: drops accents and vowel points, keeps letters, marks and digits, else a space.

    The combining marks of other scripts stay: in Hindi or Tamil they are the vowels.
    """

    def __missing__(self, code: int) -> str:
        is_accent = 0x0300 <= code <= 0x036F
        is_hebrew_point = 0x0591 <= code <= 0x05C7
        is_arabic_point = 0x0610 <= code <= 0x061A or 0x064B <= code <= 0x065F or code in (0x0640, 0x0670)
        if is_accent or is_hebrew_point or is_arabic_point:
            replacement = ""
        else:
            character = chr(code)
            replacement = character if unicodedata.category(character)[0] in "LMN" else " "
        self[code] = replacement
        return replacement


_CHARACTERS: Final = _CharacterMap({0x0649: "\u064a", 0x0629: "\u0647"})
"""Starts with two Arabic letters that are variants of another one at the end of a word."""


def tokenize(text: str) -> list[str]:
    """Return the words of a text without case and accents.

    Compatibility forms are unified (NFKC): full-width letters equal the ordinary ones. Runs of scripts that are written
    without spaces give each character and each pair of neighbouring characters. Arabic words lose their article, their
    vowel points and the variants of their alef.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    decomposed = unicodedata.normalize("NFKD", text).casefold().translate(_CHARACTERS)
    tokens: list[str] = []
    for word in unicodedata.normalize("NFC", decomposed).split():
        if word.isascii():
            tokens.append(word)
        elif word.startswith(_ARABIC_ARTICLE) and len(word) > 4:
            tokens.append(word.removeprefix(_ARABIC_ARTICLE))
        else:
            tokens += _split_unspaced(word)
    return tokens


def _split_unspaced(word: str) -> list[str]:
    """Split runs of unspaced scripts in a word into characters and pairs of characters."""
    tokens: list[str] = []
    start = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > start:
            tokens.append(word[start : run.start()])
        characters = run.group()
        tokens += [*characters, *(characters[i : i + 2] for i in range(len(characters) - 1))]
        start = run.end()
    if start < len(word):
        tokens.append(word[start:])
    return tokens
