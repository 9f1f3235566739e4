"""Docker's listings: columns, humane times and sizes, and the choice between a table, JSON and a template."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def columns(rows: list[list[str]]) -> str:
    """Rows as Docker aligns them: each column at least 10 wide, three spaces between, the last one as it is."""
    if not rows:
        return ""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    padded = [max(width + 3, 10) for width in widths]
    lines = []
    for row in rows:
        cells = [cell.ljust(padded[index]) for index, cell in enumerate(row[:-1])]
        lines.append(("".join(cells) + row[-1]).rstrip() + "\n")
    return "".join(lines)


def duration(seconds: float) -> str:
    """A span in the words of Docker's listings."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, size, unit in ((48, 1, "hours"), (24 * 7 * 2, 24, "days"), (24 * 30 * 2, 24 * 7, "weeks")):
        if hours < limit:
            return f"{hours // size} {unit}"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(moment: float) -> str:
    """How long ago a time (seconds since 1970) was."""
    return f"{duration(max(0.0, time.time() - moment))} ago"


def size(count: int) -> str:
    """Bytes in decimal units with up to three significant digits: `3.16MB`."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{_three_digits(value)}{units[0]}"


def _three_digits(value: float) -> str:
    """As C's `%.4g` with Docker's three digits would print it: no trailing zeros."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def rfc3339(moment: float) -> str:
    """A time (seconds since 1970) as Docker writes it; year 1 for never."""
    if not moment:
        return "0001-01-01T00:00:00Z"
    whole = int(moment)
    nanoseconds = int((moment - whole) * 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{nanoseconds:09d}Z"


def local_time(moment: float) -> str:
    """A time as the column CREATED AT shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC; 0.0 for what is none."""
    try:
        year, month, day, hour, minute, second = (
            int(text[first:end]) for first, end in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))
        )
    except ValueError:
        return 0.0
    if not (0 < month < 13 and 0 < day < 32 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 61):
        return 0.0
    # Days of the proleptic Gregorian calendar, of years that begin in March: strptime(3) of Python takes 5 ms to load.
    years, months = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * months + 2) // 5 + day - 719469
    return float(((days * 24 + hour) * 60 + minute) * 60 + second)


def listing(rows: list[dict[str, Any]], fields: list[tuple[str, str]], format: str) -> str:
    """Rows as a table of `fields` (heading, key), as JSON lines, or by a Go template."""
    if not format or format == "table":
        return columns([[heading for heading, _ in fields], *([str(row[key]) for _, key in fields] for row in rows)])
    if format == "json":
        import json

        return "".join(json.dumps(row) + "\n" for row in rows)
    from specrun.cli.templates import render_rows

    return render_rows(format, rows, {key: heading for heading, key in fields})
