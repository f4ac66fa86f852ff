"""Numbers, times and texts as people read them; the same in every part of the report.

In: plain values. Out: short texts in English.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from recsys.log import printable
from recsys.report.measurements import Cell

LONGEST = 160
"""Characters of a text of the shop that are shown; a longer one ends in an ellipsis."""
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


def clean_text(value: str, most: int = LONGEST) -> str:
    """A text of the shop: control characters and direction marks stripped, not longer than `most`."""
    shown = printable(value[: 4 * most])  # a text may be very long
    return shown if len(shown) <= most and len(value) <= 4 * most else shown[: most - 1].rstrip() + "…"


def initial(value: str) -> str:
    """The first character of a text, in capitals; a dot for none."""
    shown = printable(value).strip()
    return shown[:1].upper() or "·"


def number(value: float | None) -> str:
    """Whole numbers with separators, others with four figures, an en dash for none and for not-a-number."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def measure(value: float | None) -> str:
    """A figure between 0 and 1 in three decimals, smaller ones in four."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def percent(share: float | None) -> str:
    """A share as a percentage: 0.5 %, 12 %, 100 %; never rounded to 0 or to 100 when it is neither."""
    if share is None or not math.isfinite(share):
        return "–"
    value = 100 * share
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 < value < 100:
        return "> 99.9 %"
    digits = 0 if value in (0, 100) or 10 <= value < 99 else 1
    return f"{value:.{digits}f} %"


def cell(value: Cell) -> str:
    """A cell of a table."""
    if value is None:
        return "–"
    return clean_text(value, 300) if isinstance(value, str) else number(value)


def moment(at: int) -> str:
    """UTC seconds as date and minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(at: int) -> str:
    """UTC seconds as a date."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def ago(at: int, now: int) -> str:
    """How long before `now`: just now, 5 minutes ago, 3 hours ago, 12 days ago."""
    gone = max(0, now - at)
    for size, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if gone >= size:
            count = gone // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def pluralize(count: int, one: str, many: str = "") -> str:
    """`3 users`, `1 user`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def format_p_value(p: float) -> str:
    """A p value in three decimals."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
