"""Points of time as Docker's options take them: a time of RFC 3339, seconds since 1970, or a duration before now."""

from __future__ import annotations

import time

from specrun.errors import UsageError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LAYOUTS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def parse(text: str, option: str) -> float:
    """Seconds since 1970. Raises UsageError that names `--option`."""
    if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    duration = parse_duration(text)
    if duration is not None:
        return time.time() - duration
    moment = _parse_time(text)
    if moment is None:
        hint = "expected a time as 2026-01-31T12:00:00Z, seconds since 1970, or a duration before now such as 1h30m"
        error = UsageError(f'invalid value for "--{option}": {text}', hint=hint)
        error.exit_status = 1  # as Docker, whose daemon finds it
        raise error
    return moment


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration such as `1h30m` or `1.5s`; None for anything else."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text.lstrip("+-") if text[:1] in "+-" else text
    if rest == "0":
        return 0.0
    total = 0.0
    while rest:
        digits = 0
        while digits < len(rest) and rest[digits] in "0123456789.":
            digits += 1
        letters = digits
        while letters < len(rest) and rest[letters] not in "0123456789.":
            letters += 1
        unit = _UNITS.get(rest[digits:letters])
        if not digits or unit is None or rest[:digits].count(".") > 1 or rest[:digits] == ".":
            return None
        total += float(rest[:digits]) * unit
        rest = rest[letters:]
    return sign * total if text.strip("+-") else None


def local(nanoseconds: int) -> str:
    """A time in nanoseconds since 1970 as events show it: RFC 3339 with nine digits, in the local zone."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone in ("+0000", "-0000") else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{rest:09d}{zone}"


def _parse_time(text: str) -> float | None:
    import calendar

    body, zone = text, None
    if text.endswith("Z"):
        body, zone = text[:-1], 0
    elif len(text) > 16 and text[-6] in "+-" and text[-3] == ":" and (text[-5:-3] + text[-2:]).isdigit():
        body = text[:-6]
        zone = (int(text[-5:-3]) * 3600 + int(text[-2:]) * 60) * (1 if text[-6] == "+" else -1)
    body, point, fraction = body.partition(".")
    if point and not (fraction.isascii() and fraction.isdigit()):
        return None
    for layout in _LAYOUTS:
        try:
            parsed = time.strptime(body, layout)
        except ValueError:
            continue
        whole = calendar.timegm(parsed) - zone if zone is not None else time.mktime(parsed)
        return whole + (float(f"0.{fraction}") if point else 0.0)
    return None
