from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.tokenize import tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Red T-Shirt_XL 38", ["red", "t", "shirt", "xl", "38"]),
        ("Ankle-Boots, size 3.5!", ["ankle", "boots", "size", "3", "5"]),
        ("ÉTÉ déjà", ["ete", "deja"]),
        ("CAFÉ cafe\u0301", ["cafe", "cafe"]),
        ("Straße", ["strasse"]),
        ("ﬁne ½", ["fine", "1", "2"]),
        ("ＢＯＯＴＳ", ["boots"]),  # full-width letters
        ("红色连衣裙", ["红", "色", "连", "衣", "裙", "红色", "色连", "连衣", "衣裙"]),
        ("茶", ["茶"]),
        ("USB充电器2m", ["usb", "充", "电", "器", "充电", "电器", "2m"]),
        ("Nike 鞋 run跑步鞋", ["nike", "鞋", "run", "跑", "步", "鞋", "跑步", "步鞋"]),
        ("がぎ", ["が", "ぎ", "がぎ"]),  # voiced sound marks stay
        ("한국", ["한", "국", "한국"]),
        ("ชา", ["ช", "า", "ชา"]),
        ("हिन्दी", ["हिन्दी"]),  # vowel signs stay
        ("தமிழ் நூல்", ["தமிழ்", "நூல்"]),
        ("الحذاء الأحمر", ["حذاء", "احمر"]),
        ("حِذَاء أَحْمَر", ["حذاء", "احمر"]),
        ("", []),
        (" \n'-_", []),
    ],
)
def test_words_in_every_script(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_composed_and_decomposed_forms_have_the_same_tokens(text: str) -> None:
    assert tokenize(unicodedata.normalize("NFC", text)) == tokenize(unicodedata.normalize("NFD", text))


@given(st.text())
def test_a_token_has_a_letter_mark_or_digit_and_no_space(text: str) -> None:
    for token in tokenize(text):
        assert token and not any(character.isspace() for character in token)
        assert any(unicodedata.category(character)[0] in "LMN" for character in token)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_short_cut_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    assert tokenize(text) == tokenize(text + " é")[:-1]
