"""Reports to make pages of: every part filled, every text chosen by the test.

In: a function that gives the n-th text. Out: `ReportContent`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys.report.content import (
    CatalogueExposure,
    ClusterCard,
    ClusterMap,
    DataQuality,
    ExposureShare,
    ListSummary,
    NeighbourExample,
    ProductCard,
    RankedItem,
    ReportContent,
    RunChanges,
    UserEvent,
    UserExample,
)
from recsys.report.measurements import Curve, Evaluation, Figure, Grid, Pair, Training

NOW = 1_750_000_000
DAY = 86_400
Text = Callable[[int], str]


def plain(number: int) -> str:
    """Texts that say nothing."""
    return f"words {number}"


def pixels(count: int, side: int = 16) -> np.ndarray:
    """Pictures that differ."""
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side)).astype(np.uint8)


def products(count: int, text: Text = plain, *, pictured: bool = True) -> tuple[ProductCard, ...]:
    """Products, all but every fifth with a picture."""
    out, picture = [], 0
    for number in range(count):
        has = pictured and number % 5 != 4
        out.append(ProductCard(text(number), text(number + 1), text(number + 2), picture if has else -1))
        picture += has
    return tuple(out)


def figure(system: str, value: float, *, slice: str = "all", metric: str = "ndcg@10", users: int = 100) -> Figure:
    """A figure with an interval around it."""
    return Figure(system, slice, metric, value, value * 0.9, value * 1.1, users)


def evaluation(*, ours: float = 0.3, theirs: float = 0.1, p: float = 0.001, text: Text = plain) -> Evaluation:
    """Ours, what is popular, and a better plain system, in two slices and two metrics."""
    values = {"recsys": ours, "popular": theirs, "popular-7d": theirs / 2, text(7): (ours + theirs) / 2}
    figures = [
        figure(system, value, slice=part, metric=metric)
        for system, value in values.items()
        for part in ("all", "rare_products")
        for metric in ("ndcg@10", "coverage@12")
    ]
    pairs = []
    for other, value in list(values.items())[1:]:
        apart = ours - value
        wide = abs(apart) / 2 if p < 0.05 else 2 * abs(apart) + 0.01
        pairs.append(Pair("all", "ndcg@10", "recsys", other, apart, apart - wide, apart + wide, p, 100))
    return Evaluation(NOW - DAY, text(8), "recsys", text(9), 12, 100, True, True, tuple(figures), tuple(pairs))


def filled(text: Text = plain, *, count: int = 24, pictured: bool = True) -> ReportContent:
    """A report in which nothing is missing."""
    made = products(count, text, pictured=pictured)
    share = ExposureShare(text(3), 0.2, 0.3, 0.5)
    near = tuple(NeighbourExample(at, ((at + 1, 0.9), (at + 2, 0.8))) for at in range(count - 2))
    places = tuple(RankedItem(at, text(at), 1.0 / (at + 1)) for at in range(5))
    return ReportContent(
        shop=text(0),
        at=NOW,
        products=made,
        quality=DataQuality(
            counts=(("products", count), ("products with a picture", count), ("rejected rows", 3)),
            span=(NOW - 9 * DAY, NOW - DAY),
            events=Grid("Events by type", ("type", "events"), ((text(4), 5),)),
            missing=Grid("Missing values", ("column", "missing", "share"), ((text(5), 2, 0.5), ("id", 0, 0.0))),
            rejects=Grid(
                "Rejected rows", ("table", "reason", "for example", "rows", "source"),
                ((text(1), text(2), text(3), 3, text(4)),),
            ),
        ),  # fmt: skip
        training=Training(
            (Curve("products", text(1), (1, 2, 3), (3.0, 2.0, 1.5)), Curve(text(2), "loss", (1,), (1.0,))),
            Grid("Encoder", ("what", "value"), ((text(3), 0.5), ("mean_cosine", 0.4))),
            Grid("Ranker", ("what", "value"), (("kind", text(4)),)),
        ),
        agreement=tuple(figure(name, value, slice=text(6)) for name, value in (("recsys", 0.6), ("chance", 0.1))),
        evaluation=evaluation(text=text),
        lists=ListSummary(
            "20250615T120000000", NOW - 3600, 10, 10, 12, 0,
            Grid("What the rules did", ("rule", "what", "count"), ((text(1), text(2), 3),)),
            Grid("Steps", ("step", "seconds", "peak MB"), ((text(1), 1.5, None),)),
        ),
        exposure=CatalogueExposure(
            18, 20, 120, 0.4, 0.3, (share,) * 10, ((0.0, 0.0, 0.0), (0.5, 0.2, 0.3), (1.0, 1.0, 1.0)),
            (share, ExposureShare(text(4), 0.1, 0.0, 0.2)), (share,), ((0, 9), (4, 3)),
        ),
        clusters=ClusterMap(
            (ClusterCard(0, text(1), 12, (text(2),), text(3), (0, 1, 4)), ClusterCard(7, text(5), 9, (), "", (2,))),
            tuple((at, float(at % 5), float(at // 5), 7 if at % 2 else 0) for at in range(count)), count, 2,
        ),
        people=(
            UserExample(text(1), 0, (), places),
            UserExample(text(2), 2, (UserEvent(1, text(3), NOW - DAY), UserEvent(4, "purchase", NOW)), places[:2]),
        ),
        explorer=near,
        changes=RunChanges(
            "before", Grid("This run", ("what", "before", "now"), (("users", 9, 10), (text(1), None, text(2)))), 0.6, 9
        ),
        provenance=Grid("Provenance", ("what", "value"), (("run", text(1)),)),
        settings=Grid("Settings", ("setting", "value"), ((text(2), text(3)),)),
        pixels=pixels(count),
    )  # fmt: skip


def bare(*, count: int = 0) -> ReportContent:
    """A report of a shop where nothing has been done yet."""
    none = Grid("none", ("what", "value"), ())
    return ReportContent(
        shop="new shop", at=NOW, products=products(count, pictured=False), agreement=(), evaluation=None, lists=None,
        quality=DataQuality((("products", count), ("rejected rows", 0)), None, none, none, none),
        training=None, exposure=None, clusters=None, people=(), explorer=(), changes=None,
        provenance=none, settings=none, pixels=pixels(0),
    )  # fmt: skip


PAYLOADS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</textarea><script>window.pwned=1</script>",
    "</noscript><img src=x onerror=window.pwned=1>",
    "<img src=x onerror=window.pwned=1>",
    "<img src=x onerror='window.pwned=1'>",
    '"><img src=x onerror=window.pwned=1>',
    "'><img src=x onerror=window.pwned=1>",
    '" onmouseover="window.pwned=1',
    "' onmouseover='window.pwned=1",
    '" autofocus onfocus="window.pwned=1',
    "` onmouseover=window.pwned=1 `",
    "<svg onload=window.pwned=1>",
    "<svg><script>window.pwned=1</script></svg>",
    "</svg><svg onload=window.pwned=1>",
    "<svg/onload=window.pwned=1//",
    "<body onload=window.pwned=1>",
    "<iframe src='javascript:window.pwned=1'></iframe>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<a href='javascript:window.pwned=1'>x</a>",
    "javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "<object data='data:text/html,x'></object>",
    "<embed src=x>",
    "<form action=x><input name=y autofocus onfocus=window.pwned=1>",
    "<math><mtext><script>window.pwned=1</script></mtext></math>",
    "<template><script>window.pwned=1</script></template>",
    "<details open ontoggle=window.pwned=1>",
    "<video><source onerror=window.pwned=1></video>",
    "<audio src=x onerror=window.pwned=1>",
    "<input onfocus=window.pwned=1 autofocus>",
    "<marquee onstart=window.pwned=1>",
    "<meta http-equiv=refresh content='0;url=data:,x'>",
    "<base href='data:,x'>",
    "<link rel=stylesheet href='data:text/css,*{display:none}'>",
    "<style>*{display:none}</style>",
    "<style>@import 'data:text/css,*{}'",
    "<!-- comment",
    "--><script>window.pwned=1</script>",
    "<![CDATA[<script>window.pwned=1</script>]]>",
    "]]><script>window.pwned=1</script>",
    "<?xml version='1.0'?><script/>",
    "{{ 7 * 7 }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{{ ''.__class__.__mro__ }}",
    "${7*7} #{7*7}",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "&#60;script&#62;window.pwned=1",
    "&quot; onclick=&quot;window.pwned=1",
    "\\u003cscript\\u003ewindow.pwned=1\\u003c/script\\u003e",
    '"}],"x":"</script>',
    '\\"; window.pwned=1; //',
    "*/ window.pwned=1 /*",
    "'; window.pwned=1; '",
    "<scr<script>ipt>window.pwned=1</scr</script>ipt>",
    "<SCRIPT SRC=//x.invalid/x.js></SCRIPT>",
    "＜script＞window.pwned=1＜/script＞",
    "\u202e<script>window.pwned=1</script>\u2028x\x00\x1b[31m",
)
"""Texts that are markup, or would be to somebody who forgets to escape."""
