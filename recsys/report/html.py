"""The page and the numbers beside it: HTML that needs nothing but itself, and JSON.

In: `ReportContent`. Out: text; the same content gives the same bytes. All texts are escaped by Jinja2, what the script reads
is JSON without `<`, `>` and `&`, and a policy in the page forbids every style, script and address that is not in it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys.report import chart_geometry as charts
from recsys.report import formatting as words
from recsys.report.chart_data import ChartData
from recsys.report.content import ReportContent
from recsys.report.summary import verdict
from recsys.report.thumbnails import BUDGET, thumbnails

SCHEMA_VERSION = 1
LIMIT = 8_000_000
"""Bytes that no page may have."""
_SLACK = 10_000
"""Bytes by which the pictures of a page that is too large become fewer than it takes."""


def render_html(content: ReportContent, *, budget: int = BUDGET, limit: int = LIMIT) -> str:
    """The whole report as one HTML document.

    Args:
        content: what it tells.
        budget: bytes of base64 for its pictures.
        limit: bytes of the page; where texts take more than usual, pictures get less.
    """
    pictures = thumbnails(content.products, content.pixels, budget=budget)
    made = _page(content, pictures)
    over = len(made.encode()) - limit
    if over <= 0:
        return made
    left = sum(map(len, pictures)) - over - _SLACK
    return _page(content, thumbnails(content.products, content.pixels, budget=max(0, left)))


def _page(content: ReportContent, pictures: tuple[str, ...]) -> str:
    style, script = _part("style.css"), _part("script.js")
    rules = "".join(
        f".p{at}{{background-image:url(data:image/webp;base64,{held})}}\n" for at, held in enumerate(pictures) if held
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            content=content,
            verdict=verdict(content),
            figures=ChartData(content),
            pictured=[bool(held) for held in pictures],
            style=style,
            rules=rules,
            script=script,
            data=_told(content, pictures),
            policy=_policy([style, rules], [script]),
        )
    )


def to_json(content: ReportContent) -> dict[str, Any]:
    """The numbers of the report in JSON's own types; pictures are left out."""
    said = verdict(content)
    out: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "verdict": _plain(said)}
    for field in dataclasses.fields(content):
        if field.name != "pixels":
            out[field.name] = _plain(getattr(content, field.name))
    return out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _told(content: ReportContent, pictures: tuple[str, ...]) -> str:
    """What the script needs: products of the explorer and of the map, neighbours, names of groups."""
    used = {product for one in content.explorer for product in (one.product, *(near for near, _ in one.near))}
    used |= {product for product, *_ in content.clusters.dots} if content.clusters else set()
    told = {
        "products": {
            at: [
                words.clean_text(one.title, 90),
                words.clean_text(one.about, 90),
                words.clean_text(one.id, 60),
                int(bool(pictures[at])),
            ]
            for at, one in enumerate(content.products)
            if at in used
        },
        "near": {one.product: [[near, round(score, 3)] for near, score in one.near] for one in content.explorer},
        "groups": {one.id: words.clean_text(one.label, 90) for one in content.clusters.groups}
        if content.clusters
        else {},
    }
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(styles: list[str], scripts: list[str]) -> str:
    def named(texts: list[str]) -> str:
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {named(styles)}; script-src {named(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("recsys.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "clean_text",
        "initial",
        "number",
        "measure",
        "percent",
        "cell",
        "moment",
        "day",
        "ago",
        "pluralize",
        "format_p_value",
    ):
        made.filters[name] = getattr(words, name)
    made.globals["charts"] = charts
    return made


def _part(name: str) -> str:
    """A file of the templates as it stands; neither can end the element it is put into."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]
