"""Format numbers, times and texts uniformly for the report.

In: plain values. Out: short English texts.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from recsys.log import printable
from recsys.report.measurements import Cell

MAX_LENGTH = 160
"""Most characters shown of a shop's text; a longer one ends in an ellipsis."""
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


def clean_text(value: str, max_length: int = MAX_LENGTH) -> str:
    """Strip control characters and direction marks from a text and truncate it to `max_length` characters."""
    text = printable(value[: 4 * max_length])  # a text may be very long
    return text if len(text) <= max_length and len(value) <= 4 * max_length else text[: max_length - 1].rstrip() + "…"


def first_letter(value: str) -> str:
    """Return the first character of a text in upper case; a dot for an empty text."""
    text = printable(value).strip()
    return text[:1].upper() or "·"


def format_number(value: float | None) -> str:
    """Format integers with separators, others with four significant digits, None and NaN as an en dash."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_metric(value: float | None) -> str:
    """Format a metric between 0 and 1 with three decimals, small ones with four."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def format_percent(share: float | None) -> str:
    """Format a share as 0.5 %, 12 % or 100 %; never rounded to 0 or 100 unless exactly that."""
    if share is None or not math.isfinite(share):
        return "–"
    value = 100 * share
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 < value < 100:
        return "> 99.9 %"
    digits = 0 if value in (0, 100) or 10 <= value < 99 else 1
    return f"{value:.{digits}f} %"


def format_cell(value: Cell) -> str:
    """Format a table cell."""
    if value is None:
        return "–"
    return clean_text(value, 300) if isinstance(value, str) else format_number(value)


def format_time(timestamp: int) -> str:
    """Format UTC seconds as date and time in minutes."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")


def format_date(timestamp: int) -> str:
    """Format UTC seconds as a date."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")


def format_age(timestamp: int, now: int) -> str:
    """Format the time before `now`: just now, 5 minutes ago, 3 hours ago, 12 days ago."""
    elapsed = max(0, now - timestamp)
    for size, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if elapsed >= size:
            count = elapsed // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """Format a count with its noun: `3 users`, `1 user`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def format_p_value(p: float) -> str:
    """Format a p value with three decimals."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
