"""Render the report as self-contained HTML and as JSON.

In: `ReportContent`. Out: text, byte for byte the same for the same content. Jinja2 escapes all texts, the script's data
is JSON without `<`, `>` and `&`, and a content security policy forbids every style, script and URL not in the page.
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

from recsys.report import chart_geometry, formatting
from recsys.report.chart_data import ChartData
from recsys.report.content import ReportContent
from recsys.report.summary import summarize
from recsys.report.thumbnails import MAX_IMAGE_BYTES, encode_thumbnails

SCHEMA_VERSION = 1
MAX_PAGE_BYTES = 8_000_000
"""Most bytes of a page."""
_MARGIN = 10_000
"""Bytes by which the images of a page that is too large are reduced beyond the excess."""


def render_html(content: ReportContent, *, budget: int = MAX_IMAGE_BYTES, limit: int = MAX_PAGE_BYTES) -> str:
    """Render the report as one HTML document.

    Args:
        content: the data of the report.
        budget: bytes of base64 for its images.
        limit: bytes of the page; images get less room if the texts take more.
    """
    images = encode_thumbnails(content.products, content.pixels, budget=budget)
    page = _render_page(content, images)
    excess = len(page.encode()) - limit
    if excess <= 0:
        return page
    remaining = sum(map(len, images)) - excess - _MARGIN
    return _render_page(content, encode_thumbnails(content.products, content.pixels, budget=max(0, remaining)))


def _render_page(content: ReportContent, images: tuple[str, ...]) -> str:
    style, script = _read_template("style.css"), _read_template("script.js")
    image_style = "".join(
        f".p{i}{{background-image:url(data:image/webp;base64,{data})}}\n" for i, data in enumerate(images) if data
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            content=content,
            summary=summarize(content),
            charts=ChartData(content),
            has_image=[bool(data) for data in images],
            style=style,
            image_style=image_style,
            script=script,
            script_data=_create_script_data(content, images),
            policy=_create_policy([style, image_style], [script]),
        )
    )


def to_json(content: ReportContent) -> dict[str, Any]:
    """Convert the content and its summary to JSON-compatible values; images are left out."""
    out: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "verdict": _to_plain(summarize(content))}
    for field in dataclasses.fields(content):
        if field.name != "pixels":
            out[field.name] = _to_plain(getattr(content, field.name))
    return out


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _create_script_data(content: ReportContent, images: tuple[str, ...]) -> str:
    """Return the script's JSON: products of the explorer and of the map, neighbours, cluster labels."""
    used = {i for example in content.explorer for i in (example.product, *(near for near, _ in example.near))}
    used |= {product for product, *_ in content.clusters.dots} if content.clusters else set()
    data = {
        "products": {
            i: [
                formatting.clean_text(product.title, 90),
                formatting.clean_text(product.about, 90),
                formatting.clean_text(product.id, 60),
                int(bool(images[i])),
            ]
            for i, product in enumerate(content.products)
            if i in used
        },
        "neighbours": {
            example.product: [[near, round(score, 3)] for near, score in example.near] for example in content.explorer
        },
        "clusters": {cluster.id: formatting.clean_text(cluster.label, 90) for cluster in content.clusters.groups}
        if content.clusters
        else {},
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _create_policy(styles: list[str], scripts: list[str]) -> str:
    """Return a content security policy that allows these styles and scripts by hash, and nothing else."""

    def hash_sources(texts: list[str]) -> str:
        digests = (hashlib.sha256(text.encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {hash_sources(styles)}; script-src {hash_sources(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recsys.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean_text": formatting.clean_text,
        "initial": formatting.first_letter,
        "number": formatting.format_number,
        "metric": formatting.format_metric,
        "percent": formatting.format_percent,
        "cell": formatting.format_cell,
        "time": formatting.format_time,
        "date": formatting.format_date,
        "age": formatting.format_age,
        "pluralize": formatting.pluralize,
    }
    environment.globals["geometry"] = chart_geometry
    return environment


def _read_template(name: str) -> str:
    """Return the source of a template file; style and script contain nothing that ends their element."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]
