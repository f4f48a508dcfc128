"""Rate-limit headers of responses, and how they correct a throttler.

Supports `Retry-After` (RFC 9110, section 10.2.3), `RateLimit` and `RateLimit-Policy`
(draft-ietf-httpapi-ratelimit-headers: structured fields since draft 08, a dictionary in 07),
`RateLimit-*` of earlier drafts, `X-RateLimit-*`, and Binance's `X-MBX-USED-WEIGHT-*`. Malformed
headers are ignored.
"""

import dataclasses
import email.utils
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC

from networkpype._log import get_logger
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

_LOGGER = get_logger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsageReport:
    """What a server reports about one limit; a field that it does not report is None.

    `name` is the name of the policy, or of the header in lower case. `reset_after_seconds` starts
    at the response.
    """

    name: str
    limit: int | None = None
    used: int | None = None
    remaining: int | None = None
    window_seconds: float | None = None
    reset_after_seconds: float | None = None


Headers = Mapping[str, str]
"""Names in lower case; the values of a repeated header joined with commas."""

Parser = Callable[[Headers, float], Iterable[UsageReport]]
"""Called with the headers and the time in seconds since the epoch."""


def parse_retry_after(headers: Mapping[str, str], wall_time: float) -> float | None:
    """Return the seconds to wait according to `Retry-After`, a number or a date.

    A date is compared with the response's own `Date`, because the server's clock may differ from
    the local one; without a `Date`, with `wall_time` (seconds since the epoch).
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
    """Parse `RateLimit`, completed by `RateLimit-Policy`."""
    members = _list_members(headers.get("ratelimit", ""))
    policies = _list_members(headers.get("ratelimit-policy", ""))
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
            limit=_integer(policy.get("q")),
            remaining=_integer(parameters["r"]),
            window_seconds=_number(policy.get("w")),
            reset_after_seconds=_number(parameters.get("t")),
        )
    if "remaining" in dictionary:
        limit = _integer(dictionary.get("limit"))
        yield UsageReport(
            name="ratelimit",
            limit=limit,
            remaining=_integer(dictionary["remaining"]),
            window_seconds=_window_of(limit, policies),
            reset_after_seconds=_until_reset(dictionary.get("reset"), wall_time),
        )


def parse_rate_limit_headers(headers: Headers, wall_time: float) -> Iterator[UsageReport]:
    """Parse `RateLimit-Limit`, `-Remaining`, `-Used`, `-Reset`, and their `X-` forms.

    A unit at the end (`X-RateLimit-Remaining-Minute`) is the length of the window. A reset is a
    duration in seconds, or a time in seconds or milliseconds since the epoch.
    """
    families: dict[tuple[str, str], dict[str, str]] = {}
    for header, value in headers.items():
        match = _RATE_LIMIT_HEADER.fullmatch(header)
        if match is not None:
            prefix, field, unit = match.groups(default="")
            families.setdefault((prefix, unit), {})[field] = value
    for (prefix, unit), fields in families.items():
        policies = _list_members(fields.get("limit", ""))
        limit = _integer(policies[0][0]) if policies else None
        window_seconds = _UNIT_SECONDS.get(unit)
        if window_seconds is None:
            policies += _list_members(headers.get("ratelimit-policy", ""))
            window_seconds = _window_of(limit, policies)
        if "remaining" not in fields and "used" not in fields:
            continue
        reset_after = _number(fields.get("reset-after"))
        if reset_after is None:
            reset_after = _until_reset(fields.get("reset"), wall_time)
        yield UsageReport(
            name=f"{prefix}-{unit}" if unit else prefix,
            limit=limit,
            used=_integer(fields.get("used")),
            remaining=_integer(fields.get("remaining")),
            window_seconds=window_seconds,
            reset_after_seconds=reset_after,
        )


def parse_binance_used_weight(headers: Headers, _wall_time: float) -> Iterator[UsageReport]:
    """Parse `X-MBX-USED-WEIGHT-(interval)`; the interval is a number with S, M, H or D."""
    for header, value in headers.items():
        match = _BINANCE_HEADER.fullmatch(header)
        used = _integer(value)
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
    """What one response reports: how long to pause, and how much is used."""

    freeze_seconds: float
    reports: tuple[UsageReport, ...]


_EMPTY_VERDICT = ServerVerdict(freeze_seconds=0.0, reports=())

# Each header that DEFAULT_PARSERS parse begins with one of these.
_PARSED_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit", "x-mbx-used-weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """How responses correct a throttler.

    A report corrects the limit that `limit_ids` maps its name to (`{"default": "my-id"}`,
    `{"x-mbx-used-weight-1m": "weight"}`). Without a mapping, it corrects a limit that the request
    consumed and that has the reported window, or else the reported limit. If neither is reported,
    the numbers must be possible: no reset after more than the window. A report of `used` prefers
    a linked limit, other reports prefer the request's own. A report that fits no limit of the
    request is ignored, and logged once. A correction only ever raises the usage.

    A status in `freeze_statuses` freezes all limits that the request consumed: for `Retry-After`,
    else until the reset of an exhausted limit, else for `fallback_freeze_seconds`; at most for
    `max_freeze_seconds`.
    """

    parsers: tuple[Parser, ...] = DEFAULT_PARSERS
    limit_ids: Mapping[str, str] = dataclasses.field(default_factory=dict)
    freeze_statuses: frozenset[int] = frozenset({418, 429})
    fallback_freeze_seconds: float = 1.0
    # Binance's longest ban.
    max_freeze_seconds: float = 3 * 86_400.0
    wall_clock: Callable[[], float] = time.time

    def read(self, status: int, headers: Mapping[str, str]) -> ServerVerdict:
        """Return what a response reports; never raises."""
        if (
            self.parsers is DEFAULT_PARSERS
            and status not in self.freeze_statuses
            and not any(name.lower().startswith(_PARSED_PREFIXES) for name in headers)
        ):
            return _EMPTY_VERDICT  # nearly every response; parsing would take 20 us
        lowered = _lowered(headers)
        wall_time = self.wall_clock()
        reports: list[UsageReport] = []
        for parser in self.parsers:
            try:
                reports += parser(lowered, wall_time)
            except Exception:  # bad headers must not lose the response
                _LOGGER.exception("Could not parse the rate-limit headers of a response.")
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
                "The server asks for a pause of %.0f s; pausing for %.0f s.",
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
) -> list[str]:
    """Raise usage to what a server reports; `consumed` are the windows of the request.

    Returns the names of the reports that are of none of these.
    """
    foreign = []
    for report in reports:
        mapped_id = server_limits.limit_ids.get(report.name)
        window = (
            _matching_window(report, consumed) if mapped_id is None else windows.get(mapped_id)
        )
        if window is None:
            foreign.append(report.name)
            continue
        excess = _reported_usage(report, window) - window.usage(now)
        if excess > 0:
            lifetime_seconds = window.interval
            if report.reset_after_seconds is not None:
                longest = max(window.interval, server_limits.max_freeze_seconds)
                lifetime_seconds = min(report.reset_after_seconds, longest)
            window.correct(excess, end_of(now, lifetime_seconds))
    return foreign


def _matching_window(report: UsageReport, consumed: Sequence[Window]) -> Window | None:
    candidates = list(consumed)
    if report.window_seconds is not None:
        candidates = [window for window in candidates if window.interval == report.window_seconds]
    if report.limit is not None:
        same = [window for window in candidates if window.configured_limit == report.limit]
        # The window alone identifies a limit that is configured lower than the server's.
        candidates = same if report.window_seconds is None else same or candidates
    if report.window_seconds is None and report.limit is None:
        candidates = [window for window in candidates if _can_be_of(report, window)]
    if not candidates:
        return None
    # `used` is a total over all endpoints, which a linked limit represents.
    return candidates[1 if report.used is not None and len(candidates) > 1 else 0]


def _can_be_of(report: UsageReport, window: Window) -> bool:
    """Return whether the numbers of `report`, which names no window or limit, are possible."""
    if max(report.remaining or 0, report.used or 0) > window.configured_limit:
        return False
    # All of a window is free again after its interval; servers round up to whole seconds.
    return (report.reset_after_seconds or 0.0) <= window.interval + 1.0


def _reported_usage(report: UsageReport, window: Window) -> int:
    """Return the minimum usage of the share of this program."""
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
# At most 15 digits: a float holds these exactly.
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[",;]|[^",;]+')
# A reset above 30 years is a time, not a duration; one after the year 2286 is in milliseconds.
_MIN_TIMESTAMP_SECONDS = 1e9
_MIN_TIMESTAMP_MILLISECONDS = 1e10


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


def _integer(value: str | None) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _until_reset(value: str | None, wall_time: float) -> float | None:
    number = _number(value)
    if number is None or number < _MIN_TIMESTAMP_SECONDS:
        return number
    moment = number if number < _MIN_TIMESTAMP_MILLISECONDS else number / 1000
    return max(0.0, moment - wall_time)


def _http_date(value: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(value)
        # HTTP dates are always UTC (RFC 9110, section 5.6.7).
        return moment.replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _list_members(value: str) -> list[tuple[str, dict[str, str]]]:
    """Return the item and parameters of each list member (RFC 9651, section 3.1)."""
    members = [[""]]
    for token in _TOKEN.finditer(value):
        text = token.group()
        if text == '"':
            # An unterminated string: ignore the whole field (RFC 9651, section 4.2).
            return []
        if text == ",":
            members.append([""])
        elif text == ";":
            members[-1].append("")
        else:
            members[-1][-1] += text
    return [(_unquoted(item), _parameters(rest)) for item, *rest in members if item.strip()]


def _parameters(texts: Iterable[str]) -> dict[str, str]:
    pairs = (text.partition("=") for text in texts)
    return {key.strip().lower(): _unquoted(value) for key, _, value in pairs}


def _unquoted(text: str) -> str:
    return text.strip().strip('"')


def _window_of(
    limit: int | None, policies: Iterable[tuple[str, Mapping[str, str]]]
) -> float | None:
    """Return the window of the policy (`100;w=60`) whose quota is `limit`."""
    for quota, parameters in policies:
        window_seconds = _number(parameters.get("w", parameters.get("window")))
        if window_seconds is not None and _integer(quota) == limit:
            return window_seconds
    return None
