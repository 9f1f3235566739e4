"""When a container is started again, and how its health is found out: as asked for, and as Docker records it."""

from __future__ import annotations

from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESTARTS = ("no", "always", "unless-stopped", "on-failure")


def parse_restart(text: str) -> dict[str, Any]:
    """`on-failure:3` as Docker records it. Raises UsageError with Docker's words."""
    name, colon, count = (text or "no").partition(":")
    if name not in RESTARTS:
        raise UsageError(f"invalid restart policy '{name}'", hint=f"expected {', '.join(RESTARTS)} or on-failure:COUNT")
    if colon and name != "on-failure":
        raise UsageError(f"maximum retry count cannot be used with restart policy '{name}'")
    if colon and not (count.isascii() and count.isdigit()):
        raise UsageError("maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def restart_text(policy: dict[str, Any]) -> str:
    """The policy as it is asked for: `on-failure:3`."""
    name, most = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    return f"{name}:{most}" if most else name


class Health:
    """How to find out whether a container is well. Times in seconds; 0 stands for the image's or Docker's default."""

    __slots__ = ("command", "interval", "retries", "start_interval", "start_period", "timeout")

    def __init__(
        self,
        command: list[str] | None = None,
        *,
        interval: float = 0.0,
        timeout: float = 0.0,
        start_period: float = 0.0,
        start_interval: float = 0.0,
        retries: int = 0,
    ) -> None:
        self.command = command
        """`["CMD", word...]`, `["CMD-SHELL", line]`, `["NONE"]` for no check at all, or None for the image's own."""
        self.interval = interval
        self.timeout = timeout
        self.start_period = start_period
        self.start_interval = start_interval
        """How often to look during the start period; 0 for as often as later."""
        self.retries = retries

    def check(self) -> None:
        """Refuse times and counts that are none."""
        for name in ("interval", "timeout", "start_period", "start_interval"):
            value = getattr(self, name)
            if value < 0 or 0 < value < 0.001:
                raise UsageError(f"{name.replace('_', ' ').capitalize()} in Healthcheck cannot be less than 1ms")
        if self.retries < 0:
            raise UsageError("--health-retries cannot be negative")

    def over(self, base: dict[str, Any]) -> dict[str, Any]:
        """`Config.Healthcheck`: what was asked for over what the image says; {} for no check."""
        if self.command == ["NONE"]:
            return {"Test": ["NONE"]}
        own = {
            "Test": self.command,
            "Interval": round(self.interval * 1e9),
            "Timeout": round(self.timeout * 1e9),
            "StartPeriod": round(self.start_period * 1e9),
            "StartInterval": round(self.start_interval * 1e9),
            "Retries": self.retries,
        }
        merged = {**base, **{key: value for key, value in own.items() if value}}
        return merged if merged.get("Test") else {}


LOG_OPTIONS = ("max-size", "max-file")
LOG_DRIVERS = ("json-file", "none")


def log_config(driver: str, options: dict[str, str]) -> dict[str, Any]:
    """`HostConfig.LogConfig`. Raises UsageError for a driver or an option that there is not."""
    if driver not in ("", "local", *LOG_DRIVERS):
        raise UsageError(
            f"log driver {driver!r} is not supported",
            hint=f"expected one of {', '.join(LOG_DRIVERS)}, local",
        )
    for name, value in options.items():
        if name not in LOG_OPTIONS:
            raise UsageError(f"unknown log opt '{name}' for {driver or 'json-file'} log driver")
        if name == "max-size":
            parse_size(value, "--log-opt max-size")
        elif not (value.isascii() and value.isdigit() and int(value) > 0):
            raise UsageError(f"max-file cannot be less than 1: {value}")
    return {"Type": driver or "json-file", "Config": options}


def log_limits(config: dict[str, Any]) -> tuple[int, int]:
    """The greatest size of one log file in bytes, and how many are kept: 10 MB and 5 unless asked for otherwise."""
    options = config.get("Config") or {}
    size = parse_size(options["max-size"], "max-size") if options.get("max-size") else 10_000_000
    return size, int(options.get("max-file") or 5)


_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str, option: str) -> int:
    """Bytes of `64m`, `1.5GiB` or `100`; -1 stays. Raises UsageError that names the option."""
    if text == "-1":
        return -1
    body = text.strip().lower()
    for ending in ("ib", "b"):
        if body.endswith(ending) and body[: -len(ending)][-1:] in _UNITS and body[: -len(ending)][-1:]:
            body = body.removesuffix(ending)
            break
    digits = body.rstrip("bkmgtp ")
    unit = body[len(digits) :].strip()
    if unit not in _UNITS or not digits.replace(".", "", 1).isascii() or not digits.replace(".", "", 1).isdigit():
        raise UsageError(f'invalid argument "{text}" for "{option}" flag: invalid size: \'{text}\'')
    return int(float(digits) * _UNITS[unit])
