"""The page: texts stay texts, nothing is fetched, the size is bounded, the same content gives the same bytes."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from recsys.report.formatting import clean_text
from recsys.report.html import MAX_PAGE_BYTES, render_html, to_json
from tests.report.contents import PAYLOADS, bare, filled, pixels, plain


class Seen(HTMLParser):
    """Elements with the names of their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.blocks: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self._inside = tag if tag in self.blocks else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.blocks[self._inside] if self._inside else self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", ()))

    def unknown_decl(self, data: str) -> None:
        self.elements.append(("declaration", ()))

    def handle_pi(self, data: str) -> None:
        self.elements.append(("instruction", ()))


def told(html: str) -> dict[str, object]:
    """What the script of a page reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    held = json.loads(found[1])
    assert isinstance(held, dict)
    return held


def test_there_are_sixty_payloads() -> None:
    assert len(set(PAYLOADS)) == 60


@pytest.fixture(scope="module")
def shape() -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page of harmless texts."""
    return Seen(render_html(filled(lambda _: "words", pictured=False))).elements


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_in_every_text_shows_as_text(payload: str, shape: list[tuple[str, tuple[str, ...]]]) -> None:
    content = filled(lambda _: payload, pictured=False)
    html = render_html(content)
    seen = Seen(html)
    assert seen.elements == shape
    shown, words = clean_text(payload), "".join(seen.texts)
    assert words.count(clean_text(shown, 60)) >= 15  # in every section, as it was written
    products = told(html)["products"]
    assert isinstance(products, dict) and products["0"][:3] == [clean_text(payload, most) for most in (90, 90, 60)]
    assert to_json(content)["products"][0]["title"] == payload


def test_nothing_is_fetched_from_anywhere() -> None:
    html = render_html(filled())
    assert "http://" not in html and "https://" not in html
    seen = Seen(html)
    names = {name for _, names in seen.elements for name in names}
    assert not names & {"src", "srcset", "style", "action", "formaction", "poster", "xlink:href"}
    assert not [name for name in names if name.startswith("on")]
    links = re.findall(r'href="([^"]*)"', html)
    assert set(links) - {"data:,"} and all(link == "data:," or link.startswith("#") for link in links)
    assert {link[1:] for link in links if link != "data:,"} <= set(re.findall(r'id="([^"]*)"', html))


def test_the_policy_names_exactly_what_is_in_the_page() -> None:
    html = render_html(filled())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in policy[1].replace("&#39;", "'").split(";"))
    assert parts["default-src"] == "'none'" and parts["img-src"] == "data:"
    for kind, blocks in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        digests = [hashlib.sha256(block.encode()).digest() for block in re.findall(blocks, html, re.DOTALL)]
        named = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
        assert parts[f"{kind}-src"] == named and digests


def test_the_same_content_gives_the_same_bytes() -> None:
    assert render_html(filled()) == render_html(filled())
    assert render_html(filled()) != render_html(dataclasses.replace(filled(), at=1))
    assert json.dumps(to_json(filled())) == json.dumps(to_json(filled()))


@pytest.mark.parametrize("content", [bare(), bare(count=3)], ids=["nothing", "three products"])
def test_what_does_not_exist_yet_is_said_with_the_command_that_makes_it(content) -> None:
    words = " ".join("".join(Seen(render_html(content)).texts).split())
    for command in ("recsys train", "recsys evaluate", "recsys recommend", "recsys cluster", "recsys index"):
        assert command in words
    assert "not known yet" in words
    assert to_json(content)["evaluation"] is None


def test_a_catalogue_of_three_products_has_a_page_of_its_own() -> None:
    small = filled(count=6)
    words = "".join(Seen(render_html(small)).texts)
    assert all(plain(number) in words for number in (1, 2, 3))


def test_products_without_pictures_show_their_initial() -> None:
    html = render_html(filled(pictured=False))
    seen = Seen(html)
    assert "data:image" not in html
    assert "W" in seen.texts  # of "words"


@pytest.mark.parametrize("part", ["evaluation", "clusters", "training", "changes", "exposure", "lists"])
def test_one_part_may_be_missing(part: str) -> None:
    assert to_json(dataclasses.replace(filled(), **{part: None}))[part] is None
    assert len(render_html(dataclasses.replace(filled(), **{part: None}))) > 20_000


def test_the_page_stays_small_whatever_the_catalogue() -> None:
    """Pictures of noise are the largest there are; long texts in every place."""
    content = filled(lambda number: f"{number} " + "é<" * 3000, count=200)
    noise = dataclasses.replace(content, pixels=pixels(200, side=64))
    html = render_html(noise, budget=60_000).encode()
    held = sum(len(found) for found in re.findall(rb"base64,([^)]*)\)", html))
    assert 30_000 < held <= 60_000
    assert len(html) < MAX_PAGE_BYTES


def test_long_texts_leave_pictures_less_room() -> None:
    content = filled(lambda number: "<" * 300, count=60)
    noise = dataclasses.replace(content, pixels=pixels(60, side=64))
    free = len(render_html(noise).encode())
    tight = render_html(noise, limit=free - 20_000).encode()
    assert len(tight) <= free - 20_000


def test_every_chart_has_a_table_and_every_control_a_name() -> None:
    html = render_html(filled())
    counts = Counter(tag for tag, _ in Seen(html).elements)
    assert counts["h1"] == 1 and counts["main"] == 1 and counts["nav"] == 1
    assert counts["table"] >= 15 and counts["caption"] == counts["table"]
    for image in re.findall(r"<[^>]*role=\"img\"[^>]*>", html):
        assert "aria-label=" in image
    regions = re.findall(r'<div class="scroll"[^>]*>', html)
    assert regions and all('tabindex="0"' in one and "aria-label=" in one for one in regions)
