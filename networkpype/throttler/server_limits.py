"""What servers say about their limits in the headers of a response.

Read are `Retry-After` (RFC 9110, section 10.2.3), `RateLimit` and `RateLimit-Policy`
(draft-ietf-httpapi-ratelimit-headers, as structured fields since 08 and as a dictionary in 07),
`RateLimit-*` of the drafts before, `X-RateLimit-*`, and Binance's `X-MBX-USED-WEIGHT-*`. A header
that does not make sense is ignored.
"""

import dataclasses
import email.utils
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC

from networkpype.throttler._window import Window, end_of

__all__ = (
    "DEFAULT_PARSERS",
    "ServerLimits",
    "ServerVerdict",
    "UsageReport",
    "correct_windows",
    "parse_binance_used_weight",
    "parse_rate_limit_fields",
    "parse_rate_limit_headers",
    "parse_retry_after",
)

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsageReport:
    """What a server says about one limit; None is what it does not say.

    `name` is the name of the policy, or of the header in lower case. `reset_after_seconds` counts
    from the response.
    """

    name: str
    limit: int | None = None
    used: int | None = None
    remaining: int | None = None
    window_seconds: float | None = None
    reset_after_seconds: float | None = None


Headers = Mapping[str, str]
"""Names in lower case; the lines of a repeated header joined with commas."""

Parser = Callable[[Headers, float], Iterable[UsageReport]]
"""Takes headers and the time in seconds since the epoch."""


def parse_retry_after(headers: Mapping[str, str], wall_time: float) -> float | None:
    """Return the seconds of `Retry-After`, a number or a date, from the response on.

    A date is compared with the `Date` of the same response, because the server's clock may differ
    from ours; `wall_time` (seconds since the epoch) is for responses without it.
    """
    lowered = _lowered(headers)
    value = lowered.get("retry-after", "").strip()
    seconds = _number(value)
    if seconds is not None:
        return seconds
    moment = _http_date(value)
    if moment is None:
        return None
    sent_at = _http_date(lowered.get("date", ""))
    return max(0.0, moment - (wall_time if sent_at is None else sent_at))


def parse_rate_limit_fields(headers: Headers, wall_time: float) -> Iterator[UsageReport]:
    """Read `RateLimit`, with what `RateLimit-Policy` adds to it."""
    members = _members(headers.get("ratelimit", ""))
    policies = _members(headers.get("ratelimit-policy", ""))
    quotas = {name: parameters for name, parameters in policies if "q" in parameters}
    dictionary = {}
    for name, parameters in members:
        if "r" not in parameters:
            key, _, value = name.partition("=")
            dictionary[key.strip().lower()] = value.strip()
            continue
        policy = quotas.get(name, {})
        yield UsageReport(
            name=name,
            limit=_whole(policy.get("q")),
            remaining=_whole(parameters["r"]),
            window_seconds=_number(policy.get("w")),
            reset_after_seconds=_number(parameters.get("t")),
        )
    if "remaining" in dictionary:
        limit = _whole(dictionary.get("limit"))
        yield UsageReport(
            name="ratelimit",
            limit=limit,
            remaining=_whole(dictionary["remaining"]),
            window_seconds=_window_of(limit, policies),
            reset_after_seconds=_until_reset(dictionary.get("reset"), wall_time),
        )


def parse_rate_limit_headers(headers: Headers, wall_time: float) -> Iterator[UsageReport]:
    """Read `RateLimit-Limit`, `-Remaining`, `-Used`, `-Reset`, also with `X-` or `X-Rate-Limit-`.

    A unit at the end (`X-RateLimit-Remaining-Minute`) is the length of the window. A reset is in
    seconds, or a moment in seconds or milliseconds since the epoch.
    """
    families: dict[tuple[str, str], dict[str, str]] = {}
    for header, value in headers.items():
        match = _RATE_LIMIT_HEADER.fullmatch(header)
        if match is not None:
            prefix, field, unit = match.groups(default="")
            families.setdefault((prefix, unit), {})[field] = value
    for (prefix, unit), fields in families.items():
        policies = _members(fields.get("limit", ""))
        limit = _whole(policies[0][0]) if policies else None
        window_seconds = _UNIT_SECONDS.get(unit)
        if window_seconds is None:
            policies += _members(headers.get("ratelimit-policy", ""))
            window_seconds = _window_of(limit, policies)
        if "remaining" not in fields and "used" not in fields:
            continue
        reset_after = _number(fields.get("reset-after"))
        if reset_after is None:
            reset_after = _until_reset(fields.get("reset"), wall_time)
        yield UsageReport(
            name=f"{prefix}-{unit}" if unit else prefix,
            limit=limit,
            used=_whole(fields.get("used")),
            remaining=_whole(fields.get("remaining")),
            window_seconds=window_seconds,
            reset_after_seconds=reset_after,
        )


def parse_binance_used_weight(headers: Headers, _wall_time: float) -> Iterator[UsageReport]:
    """Read `X-MBX-USED-WEIGHT-(interval)`; the interval is a number with S, M, H or D."""
    for header, value in headers.items():
        match = _BINANCE_HEADER.fullmatch(header)
        used = _whole(value)
        if match is not None and used is not None:
            count, unit = match.groups()
            window_seconds = int(count) * _UNIT_SECONDS[unit]
            yield UsageReport(name=header, used=used, window_seconds=window_seconds)


DEFAULT_PARSERS: tuple[Parser, ...] = (
    parse_rate_limit_fields,
    parse_rate_limit_headers,
    parse_binance_used_weight,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerVerdict:
    """What one response says: freeze for so long, so much is used."""

    freeze_seconds: float
    reports: tuple[UsageReport, ...]


_NOTHING_SAID = ServerVerdict(freeze_seconds=0.0, reports=())

# Every header that DEFAULT_PARSERS read begins with one of these.
_PARSED_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit", "x-mbx-used-weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """How responses correct a throttler.

    A report changes the limit that `limit_ids` maps its name to (`{"default": "my-id"}`,
    `{"x-mbx-used-weight-1m": "weight"}`). Other reports change, among the limits that the request
    consumed, one with the window and the limit that the report names: for a `used` a linked
    one first, else the request's own first. It only ever raises the usage.

    A status in `freeze_statuses` freezes all limits that the request consumed for `Retry-After`,
    else until the reset of an exhausted limit, else for `fallback_freeze_seconds`, and never for
    more than `max_freeze_seconds`.
    """

    parsers: tuple[Parser, ...] = DEFAULT_PARSERS
    limit_ids: Mapping[str, str] = dataclasses.field(default_factory=dict)
    freeze_statuses: frozenset[int] = frozenset({418, 429})
    fallback_freeze_seconds: float = 1.0
    # The longest ban of Binance.
    max_freeze_seconds: float = 3 * 86_400.0
    wall_clock: Callable[[], float] = time.time

    def read(self, status: int, headers: Mapping[str, str]) -> ServerVerdict:
        """Return what a response says; never raises."""
        if (
            self.parsers is DEFAULT_PARSERS
            and status not in self.freeze_statuses
            and not any(name.lower().startswith(_PARSED_PREFIXES) for name in headers)
        ):
            return _NOTHING_SAID  # nearly every response; the rest of this costs 20 us
        lowered = _lowered(headers)
        wall_time = self.wall_clock()
        reports: list[UsageReport] = []
        for parser in self.parsers:
            try:
                reports += parser(lowered, wall_time)
            except Exception:  # a response must not be lost over its headers
                _LOGGER.exception("The headers of a response could not be read.")
        freeze_seconds = 0.0
        if status in self.freeze_statuses:
            freeze_seconds = self._freeze_seconds(lowered, reports, wall_time)
        return ServerVerdict(freeze_seconds=freeze_seconds, reports=tuple(reports))

    def _freeze_seconds(
        self, headers: Headers, reports: Iterable[UsageReport], wall_time: float
    ) -> float:
        seconds = parse_retry_after(headers, wall_time)
        if seconds is None:
            resets = [
                report.reset_after_seconds
                for report in reports
                if report.remaining == 0 and report.reset_after_seconds is not None
            ]
            seconds = max(resets, default=self.fallback_freeze_seconds)
        if seconds > self.max_freeze_seconds:
            _LOGGER.warning(
                "A server wants a pause of %.0f s; it gets %.0f s.",
                seconds,
                self.max_freeze_seconds,
            )
        return min(seconds, self.max_freeze_seconds)


def correct_windows(
    reports: Iterable[UsageReport],
    consumed: Sequence[Window],
    windows: Mapping[str, Window],
    server_limits: ServerLimits,
    now: float,
) -> None:
    """Raise the usage of windows to what a server reports; `consumed` are those of the request."""
    for report in reports:
        mapped_id = server_limits.limit_ids.get(report.name)
        meant = _window_meant(report, consumed) if mapped_id is None else windows.get(mapped_id)
        if meant is None:
            continue
        excess = _reported_usage(report, meant) - meant.usage(now)
        if excess > 0:
            lifetime_seconds = meant.interval
            if report.reset_after_seconds is not None:
                longest = max(meant.interval, server_limits.max_freeze_seconds)
                lifetime_seconds = min(report.reset_after_seconds, longest)
            meant.correct(excess, end_of(now, lifetime_seconds))


def _window_meant(report: UsageReport, consumed: Sequence[Window]) -> Window | None:
    candidates = list(consumed)
    if report.window_seconds is not None:
        candidates = [window for window in candidates if window.interval == report.window_seconds]
    if report.limit is not None:
        same = [window for window in candidates if window.configured_limit == report.limit]
        candidates = same or candidates
    if not candidates:
        return None
    # A `used` is a total over all endpoints, which is what links are for.
    return candidates[1 if report.used is not None and len(candidates) > 1 else 0]


def _reported_usage(report: UsageReport, window: Window) -> int:
    """Return how much of our share is used, at least.

    What is not our share is for others to use.
    """
    if report.remaining is not None:
        used = window.configured_limit - report.remaining
    else:
        used = report.used or 0
    return used - (window.configured_limit - window.shared_limit)


_UNIT_SECONDS = {
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3_600.0,
    "day": 86_400.0,
}
_RATE_LIMIT_HEADER = re.compile(
    r"(x-rate-?limit|ratelimit)-(limit|remaining|used|reset|reset-after)"
    r"(?:-(second|minute|hour|day))?"
)
_BINANCE_HEADER = re.compile(r"x-mbx-used-weight-([0-9]{1,6})([smhd])")
# Fifteen digits: more is no quantity of anything here, and a float could not hold it exactly.
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[",;]|[^",;]+')
# From 30 years on a reset is a moment and not a duration, from the year 2286 on one in ms.
_FIRST_EPOCH_S = 1e9
_FIRST_EPOCH_MS = 1e10


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return lowered


def _number(value: str | None) -> float | None:
    if value is None or not _NUMBER.fullmatch(value.strip()):
        return None
    return float(value)


def _whole(value: str | None) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _until_reset(value: str | None, wall_time: float) -> float | None:
    number = _number(value)
    if number is None or number < _FIRST_EPOCH_S:
        return number
    moment = number if number < _FIRST_EPOCH_MS else number / 1000
    return max(0.0, moment - wall_time)


def _http_date(value: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
        # HTTP dates are UTC (RFC 9110, section 5.6.7), whatever else they may say.
        return moment.replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _members(value: str) -> list[tuple[str, dict[str, str]]]:
    """Return item and parameters of each member of a list (RFC 9651, section 3.1)."""
    members = [[""]]
    for token in _TOKEN.finditer(value):
        text = token.group()
        if text == '"':
            # A string without an end: the whole field is to be ignored (RFC 9651, section 4.2).
            return []
        if text == ",":
            members.append([""])
        elif text == ";":
            members[-1].append("")
        else:
            members[-1][-1] += text
    return [(_bare(item), _parameters(rest)) for item, *rest in members if item.strip()]


def _parameters(texts: Iterable[str]) -> dict[str, str]:
    pairs = (text.partition("=") for text in texts)
    return {key.strip().lower(): _bare(value) for key, _, value in pairs}


def _bare(text: str) -> str:
    return text.strip().strip('"')


def _window_of(
    limit: int | None, policies: Iterable[tuple[str, Mapping[str, str]]]
) -> float | None:
    """Return the window of the policy (`100;w=60`) whose quota is `limit`."""
    for quota, parameters in policies:
        window_seconds = _number(parameters.get("w", parameters.get("window")))
        if window_seconds is not None and _whole(quota) == limit:
            return window_seconds
    return None
