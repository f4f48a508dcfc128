"""What servers say in headers, and what becomes of it."""

import logging
import time

import pytest
from multidict import CIMultiDict

from networkpype.exceptions import ConfigurationError
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.server_limits import (
    DEFAULT_PARSERS,
    ServerLimits,
    UsageReport,
    parse_retry_after,
)
from networkpype.throttler.throttler import AsyncThrottler

# 2026-11-21 00:00:00 UTC
NOW = 1_795_219_200.0


def server_limits(**arguments) -> ServerLimits:
    return ServerLimits(wall_clock=lambda: NOW, **arguments)


def reports(headers) -> tuple[UsageReport, ...]:
    return server_limits().read(200, headers).reports


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("Sat, 21 Nov 2026 00:01:00 GMT", 60.0),
        # The two obsolete forms of RFC 9110, section 5.6.7.
        ("Saturday, 21-Nov-26 00:01:00 GMT", 60.0),
        ("Sat Nov 21 00:01:00 2026", 60.0),
        ("Sat, 21 Nov 2026 00:01:00 -0000", 60.0),
        ("Fri, 20 Nov 2026 00:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("5, 10", None),
        ("1" * 400, None),
        ("٣", None),
        ("Sat, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after({"retry-AFTER": value}, NOW) == seconds


def test_retry_after_is_absent():
    assert parse_retry_after({}, NOW) is None


def test_date_of_retry_after_is_measured_on_the_clock_of_the_server():
    headers = {
        "Retry-After": "Sat, 21 Nov 2026 10:00:30 GMT",
        "Date": "Sat, 21 Nov 2026 10:00:00 GMT",
    }
    assert parse_retry_after(headers, NOW) == 30.0
    assert parse_retry_after({**headers, "Date": "?"}, NOW) == 36_030.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Structured fields, since draft 08.
        (
            {"RateLimit": '"default";r=50;t=30', "RateLimit-Policy": '"default";q=100;w=60'},
            [("default", 100, None, 50, 60.0, 30.0)],
        ),
        ({"RateLimit": '"default";r=50'}, [("default", None, None, 50, None, None)]),
        (
            {
                "RateLimit": '"a,;b";r=1;t=2, "day" ; r=3',
                "RateLimit-Policy": '"day";w=86400;q=9;qu="requests;x", "a,;b";q=4;w=1',
            },
            [("a,;b", 4, None, 1, 1.0, 2.0), ("day", 9, None, 3, 86_400.0, None)],
        ),
        # A dictionary, in draft 07.
        (
            {"RateLimit": "limit=100, remaining=50, reset=5", "RateLimit-Policy": "100;w=10"},
            [("ratelimit", 100, None, 50, 10.0, 5.0)],
        ),
        ({"RateLimit": "limit=100"}, []),
        # One header each, in drafts up to 06.
        (
            {
                "RateLimit-Limit": "10, 10;w=1, 50;w=60",
                "RateLimit-Remaining": "3",
                "RateLimit-Reset": "1",
            },
            [("ratelimit", 10, None, 3, 1.0, 1.0)],
        ),
        (
            {
                "RateLimit-Limit": "50",
                "RateLimit-Policy": "10;w=1, 50;w=60",
                "RateLimit-Remaining": "3",
            },
            [("ratelimit", 50, None, 3, 60.0, None)],
        ),
        # As GitHub does it: a moment.
        (
            {
                "X-RateLimit-Limit": "5000",
                "X-RateLimit-Remaining": "4999",
                "X-RateLimit-Used": "1",
                "X-RateLimit-Reset": str(int(NOW) + 90),
            },
            [("x-ratelimit", 5000, 1, 4999, None, 90.0)],
        ),
        # As X does it; in milliseconds; long ago.
        (
            {"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(NOW * 1000) + 500)},
            [("x-rate-limit", None, None, 0, None, 0.5)],
        ),
        (
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) - 90)},
            [("x-ratelimit", None, None, 0, None, 0.0)],
        ),
        # As Discord does it.
        (
            {
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(NOW) + 90),
                "X-RateLimit-Reset-After": "1.25",
            },
            [("x-ratelimit", None, None, 0, None, 1.25)],
        ),
        # As Kong does it.
        (
            {
                "X-RateLimit-Limit-Minute": "60",
                "X-RateLimit-Remaining-Minute": "59",
                "X-RateLimit-Limit-Hour": "600",
                "X-RateLimit-Remaining-Hour": "300",
            },
            [
                ("x-ratelimit-minute", 60, None, 59, 60.0, None),
                ("x-ratelimit-hour", 600, None, 300, 3600.0, None),
            ],
        ),
        ({"X-RateLimit-Limit": "60"}, []),
        # Binance. Without an interval it is an older name for one of those with.
        (
            {"X-MBX-USED-WEIGHT": "5", "X-MBX-USED-WEIGHT-1M": "5", "x-mbx-used-weight-10s": "2"},
            [
                ("x-mbx-used-weight-1m", None, 5, None, 60.0, None),
                ("x-mbx-used-weight-10s", None, 2, None, 10.0, None),
            ],
        ),
        ({"X-MBX-USED-WEIGHT-1M": "many", "X-MBX-USED-WEIGHT-1Q": "5"}, []),
        # Whatever a server may send.
        ({"RateLimit": '"open;r=5', "RateLimit-Policy": ";;;=,,,", "X-RateLimit-Reset": "x"}, []),
        ({"RateLimit": '"a";r=-5;t=x'}, [("a", None, None, None, None, None)]),
        ({"RateLimit": ""}, []),
    ],
)
def test_headers_are_read(headers, expected):
    fields = [
        (
            report.name,
            report.limit,
            report.used,
            report.remaining,
            report.window_seconds,
            report.reset_after_seconds,
        )
        for report in reports(headers)
    ]
    assert fields == expected


def test_lines_of_a_repeated_header_belong_together():
    headers = CIMultiDict([("RateLimit", '"a";r=1'), ("ratelimit", '"b";r=2')])
    assert [report.name for report in reports(headers)] == ["a", "b"]


@pytest.mark.slow
def test_long_hostile_headers_are_read_in_no_time():
    before = time.process_time()
    for hostile in ('"' * 8000, '"\\' * 4000, ";" * 8000, "," * 8000, "a=" * 4000, '"a' * 4000):
        reports({"RateLimit": hostile * 10, "RateLimit-Policy": hostile * 10})
    # Half a minute and more if the time grows with the square of the length.
    assert time.process_time() - before < 5.0


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, {"Retry-After": "5"}, 0.0),
        (503, {"Retry-After": "5"}, 0.0),
        (429, {"Retry-After": "5"}, 5.0),
        (418, {"Retry-After": "Sat, 21 Nov 2026 00:02:00 GMT"}, 120.0),
        (429, {"RateLimit": '"a";r=0;t=7, "b";r=0;t=3, "c";r=1;t=99'}, 7.0),
        (429, {"Retry-After": "2", "RateLimit": '"a";r=0;t=7'}, 2.0),
        (429, {"RateLimit": '"a";r=1;t=7'}, 1.0),
        (429, {}, 1.0),
        (429, {"Retry-After": "99999999"}, 3 * 86_400.0),
    ],
)
def test_how_long_a_refusal_freezes(status, headers, seconds):
    assert server_limits().read(status, headers).freeze_seconds == seconds


def test_a_pause_that_is_cut_is_logged(caplog):
    server_limits(max_freeze_seconds=10.0).read(429, {"Retry-After": "60"})
    assert "asks for a pause of 60 s; pausing for 10 s" in caplog.text


def test_a_parser_that_fails_is_logged_and_the_others_go_on(caplog):
    def broken(headers, wall_time):
        raise ZeroDivisionError

    limits = server_limits(parsers=(broken, *DEFAULT_PARSERS))
    with caplog.at_level(logging.ERROR):
        verdict = limits.read(200, {"X-MBX-USED-WEIGHT-1M": "5"})
    assert [report.used for report in verdict.reports] == [5]
    assert "ZeroDivisionError" in caplog.text


# -- in a throttler


def make_throttler(**arguments) -> AsyncThrottler:
    links = [LinkedLimitWeightPair("weight", 2), LinkedLimitWeightPair("orders", 1)]
    arguments.setdefault("safety_margin_pct", 0.0)
    return AsyncThrottler(
        [
            RateLimit("order", 50, 60.0, 1, links),
            RateLimit("weight", 100, 60.0),
            RateLimit("orders", 10, 10.0),
            RateLimit("other", 100, 60.0, 1, [LinkedLimitWeightPair("weight", 1)]),
        ],
        **arguments,
    )


def room(throttler: AsyncThrottler, limit_id: str) -> int:
    """Consume what is left."""
    return next(count for count in range(1000) if not throttler.try_acquire(limit_id))


def after(headers, status: int = 200, limit_id: str = "order", **arguments) -> AsyncThrottler:
    throttler = make_throttler(**arguments)
    throttler.observe(limit_id, status, headers)
    return throttler


def test_used_weight_corrects_the_linked_limit_with_that_window():
    headers = {"X-MBX-USED-WEIGHT-1M": "70"}
    assert room(after(headers), "weight") == 30
    assert room(after(headers), "orders") == 10
    assert room(after(headers), "order") == 10
    # No limit of that request has such a window.
    assert room(after({"X-MBX-USED-WEIGHT-1H": "70"}), "weight") == 100


def test_usage_is_never_corrected_downward():
    throttler = make_throttler()
    for _ in range(5):
        assert throttler.try_acquire("order")
    throttler.observe("order", 200, {"X-MBX-USED-WEIGHT-1M": "3"})
    assert room(throttler, "weight") == 90
    assert not throttler.try_acquire("weight")


def test_a_report_counts_the_same_requests_once():
    throttler = make_throttler()
    for used in (2, 4, 6):
        assert throttler.try_acquire("order")
        throttler.observe("order", 200, {"X-MBX-USED-WEIGHT-1M": str(used)})
    assert room(throttler, "weight") == 94


def test_remaining_corrects_the_own_limit_or_the_one_with_that_window_or_quota():
    assert room(after({"RateLimit": '"x";r=4'}), "order") == 4
    by_window = {"RateLimit": '"x";r=4', "RateLimit-Policy": '"x";q=99;w=10'}
    assert room(after(by_window), "orders") == 4
    by_quota = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "4"}
    assert room(after(by_quota), "weight") == 4
    # More is left there than we may ever take.
    assert room(after({"RateLimit": '"x";r=4000'}), "orders") == 10


def test_names_can_be_mapped():
    limits = server_limits(limit_ids={"x-mbx-used-weight-1m": "other"})
    headers = {"X-MBX-USED-WEIGHT-1M": "70"}
    assert room(after(headers, server_limits=limits), "other") == 30
    with pytest.raises(ConfigurationError, match="maps 'x' to 'y', which does not exist"):
        make_throttler(server_limits=server_limits(limit_ids={"x": "y"}))


def test_what_is_not_our_share_is_for_others_to_use():
    arguments = {"limits_share_percentage": 50}
    headers = {"X-MBX-USED-WEIGHT-1M": "40"}
    assert room(after(headers, **arguments), "weight") == 50
    headers = {"X-MBX-USED-WEIGHT-1M": "80"}
    assert room(after(headers, **arguments), "weight") == 20
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "15"}
    assert room(after(headers, **arguments), "weight") == 15


def test_a_correction_ends_with_the_window_or_the_reset():
    throttler = after({"X-MBX-USED-WEIGHT-1M": "100"})
    assert throttler.estimate_wait("weight") == pytest.approx(60.0, abs=5.0)
    throttler = after({"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0"})
    assert throttler.estimate_wait("weight") == pytest.approx(60.0, abs=5.0)
    headers = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "90"}
    assert after(headers).estimate_wait("weight") == pytest.approx(90.0, abs=5.0)
    headers["X-RateLimit-Reset"] = "999999999"
    throttler = after(headers)
    assert throttler.estimate_wait("weight") == pytest.approx(3 * 86_400.0, abs=5.0)


@pytest.mark.parametrize("status", [418, 429])
def test_a_refusal_freezes_what_the_request_consumed(status, caplog):
    throttler = after({"Retry-After": "30"}, status)
    for limit_id in ("order", "weight", "orders", "other"):
        assert not throttler.try_acquire(limit_id)
        assert throttler.estimate_wait(limit_id) == pytest.approx(30.0, abs=5.0)
    assert "pausing requests under limit 'order' for 30.0 s" in caplog.text
    throttler = after({"Retry-After": "30"}, status, "orders")
    assert not throttler.try_acquire("order")
    assert throttler.try_acquire("other")


def test_a_shorter_pause_does_not_end_a_longer_one():
    throttler = after({"Retry-After": "300"}, 418)
    throttler.observe("order", 429, {"Retry-After": "1"})
    assert throttler.estimate_wait("order") == pytest.approx(300.0, abs=5.0)


def test_it_can_be_switched_off():
    assert room(after({"Retry-After": "30"}, 429, server_limits=None), "weight") == 100


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "600"},
        {"X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "600"},
        {"X-RateLimit-Limit": "100", "X-RateLimit-Used": "99"},
        {"X-RateLimit-Used": "700"},
        {"X-RateLimit-Remaining-Hour": "0"},
        {"RateLimit": '"day";r=0;t=40000', "RateLimit-Policy": '"day";q=50;w=86400'},
        {"RateLimit-Limit": "100, 100;w=3600", "RateLimit-Remaining": "0"},
        {"X-MBX-USED-WEIGHT-1D": "50"},
    ],
)
def test_a_report_of_a_foreign_limit_is_ignored_and_logged_once(headers, caplog):
    throttler = AsyncThrottler([RateLimit("a", 50, 1.0)], safety_margin_pct=0.0)
    for _ in range(3):
        throttler.observe("a", 200, headers)
    assert [throttler.try_acquire("a") for _ in range(51)] == [True] * 50 + [False]
    assert caplog.text.count("fits no limit") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0"},
        {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "10"},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "11"},
        {"RateLimit": '"own";r=0;t=9', "RateLimit-Policy": '"own";q=50;w=10'},
        {"X-MBX-USED-WEIGHT-10S": "70"},
    ],
)
def test_a_report_of_the_own_limit_is_heard(headers, caplog):
    throttler = AsyncThrottler([RateLimit("a", 50, 10.0)], safety_margin_pct=0.0)
    throttler.observe("a", 200, headers)
    assert not throttler.try_acquire("a")
    assert caplog.text == ""


def test_names_without_number_do_not_fill_the_log(caplog):
    throttler = AsyncThrottler([RateLimit("a", 50, 1.0)])
    for number in range(1_000):
        throttler.observe("a", 200, {"RateLimit": f'"policy-{number}";r=0;t=600'})
    assert caplog.text.count("fits no limit") <= 100
