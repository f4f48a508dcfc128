"""Which attempts are repeated, and when; against a server in test_rest_retries.py."""

import asyncio
import math
import random
from typing import Any

import aiohttp
import pytest

from networkpype.exceptions import (
    AuthError,
    ConfigurationError,
    ConnectionFailedError,
    HTTPStatusError,
    InvalidURLError,
    PayloadError,
    TLSError,
    TooManyRedirectsError,
    TransportTimeoutError,
    map_client_error,
)
from networkpype.retry import RetryBudget, RetryPolicy, run_attempts


def status_error(status: int, **headers: str) -> HTTPStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPStatusError(method="GET", url="/", status=status, headers=named, body="")


class Top(random.Random):
    """Draw the upper end, always."""

    def uniform(self, a: float, b: float) -> float:
        return b


def run(
    policy: RetryPolicy | None,
    errors: list[BaseException],
    *,
    method: str = "GET",
    has_idempotency_key: bool = False,
    rng: random.Random | None = None,
) -> tuple[Any, list[int], list[float]]:
    """Return the outcome, the numbers of the attempts, and the pauses between them."""
    numbers: list[int] = []
    pauses: list[float] = []

    async def attempt(number: int) -> str:
        numbers.append(number)
        if len(numbers) <= len(errors):
            raise errors[len(numbers) - 1]
        return "done"

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def main() -> Any:
        try:
            return await run_attempts(
                policy,
                attempt,
                method=method,
                has_idempotency_key=has_idempotency_key,
                sleep=sleep,
                wall_clock=lambda: 0.0,
                rng=rng,
            )
        except BaseException as error:  # noqa: BLE001  (the outcome that is looked at)
            return error

    return asyncio.run(main()), numbers, pauses


def test_no_policy_means_one_attempt():
    error = status_error(503)
    assert run(None, [error]) == (error, [1], [])
    assert run(None, []) == ("done", [1], [])


def test_attempts_end_with_success_or_with_the_last_error():
    errors = [status_error(503), ConnectionFailedError("reset"), status_error(502)]
    outcome, numbers, _ = run(RetryPolicy(max_attempts=4), errors)
    assert (outcome, numbers) == ("done", [1, 2, 3, 4])
    outcome, numbers, pauses = run(RetryPolicy(max_attempts=3), errors)
    assert outcome is errors[2]
    assert numbers == [1, 2, 3]
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("method", "has_key", "is_repeated"),
    [
        ("GET", False, True),
        ("HEAD", False, True),
        ("OPTIONS", False, True),
        ("PUT", False, True),
        ("DELETE", False, True),
        ("get", False, True),
        ("POST", False, False),
        ("PATCH", False, False),
        ("POST", True, True),
        ("PATCH", True, True),
    ],
)
def test_only_idempotent_requests_are_repeated(method, has_key, is_repeated):
    _, numbers, _ = run(
        RetryPolicy(), [status_error(503)], method=method, has_idempotency_key=has_key
    )
    assert numbers == ([1, 2] if is_repeated else [1])


def fingerprint_mismatch() -> Exception:
    return map_client_error(aiohttp.ServerFingerprintMismatch(b"1", b"2", "host", 443))


@pytest.mark.parametrize(
    ("error", "is_repeated"),
    [
        *((status_error(status), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status_error(status), False) for status in (400, 401, 403, 404, 409, 418, 422, 501)),
        (ConnectionFailedError("reset"), True),
        (TransportTimeoutError("late"), True),
        (PayloadError("half"), True),
        (InvalidURLError("?"), False),
        (map_client_error(aiohttp.ClientSSLError(None, OSError())), False),
        (fingerprint_mismatch(), False),
        (map_client_error(aiohttp.TooManyRedirects(None, ())), False),
        (AuthError("no key"), False),
        (KeyError("a bug"), False),
        (asyncio.CancelledError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_may_pass_by_itself_is_repeated(error, is_repeated):
    outcome, numbers, _ = run(RetryPolicy(), [error])
    assert numbers == ([1, 2] if is_repeated else [1])
    assert outcome is error or outcome == "done"


def test_errors_that_are_not_repeated_are_those_they_are_meant_to_be():
    assert isinstance(map_client_error(aiohttp.ClientSSLError(None, OSError())), TLSError)
    assert isinstance(fingerprint_mismatch(), aiohttp.ServerFingerprintMismatch)
    too_many = map_client_error(aiohttp.TooManyRedirects(None, ()))
    assert isinstance(too_many, TooManyRedirectsError)


def test_statuses_can_be_chosen():
    policy = RetryPolicy(statuses=frozenset({404}))
    assert run(policy, [status_error(404)])[1] == [1, 2]
    assert run(policy, [status_error(503)])[1] == [1]


def test_back_off_doubles_up_to_its_maximum():
    policy = RetryPolicy(max_attempts=6, backoff_seconds=0.5, max_backoff_seconds=3.0)
    assert run(policy, [status_error(503)] * 5, rng=Top())[2] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full():
    policy = RetryPolicy(max_attempts=2, backoff_seconds=8.0)
    pauses = [
        run(policy, [status_error(503)], rng=random.Random(seed))[2][0] for seed in range(50)
    ]
    assert all(0 <= pause <= 8 for pause in pauses)
    assert min(pauses) < 1
    assert max(pauses) > 7
    # By default it is drawn anew by every program.
    assert run(policy, [status_error(503)])[2] != run(policy, [status_error(503)])[2]


def test_back_off_does_not_overflow():
    policy = RetryPolicy(max_backoff_seconds=5.0)
    assert policy.backoff_ceiling_seconds(100_000) == 5.0
    assert RetryPolicy(backoff_seconds=1e300).backoff_ceiling_seconds(5000) == 20.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:00:09 GMT", 9.0), ("0", 0.0), ("nonsense", 0.0)],
)
def test_retry_after_is_a_lower_bound(value, seconds):
    error = status_error(503, Retry_After=value)
    policy = RetryPolicy(max_attempts=2, backoff_seconds=2.0)
    assert run(policy, [error], rng=Top())[2] == [seconds + 2.0]
    for seed in range(20):
        assert seconds <= run(policy, [error], rng=random.Random(seed))[2][0] <= seconds + 2.0


def test_a_long_retry_after_is_not_waited_for():
    error = status_error(503, Retry_After="61")
    assert run(RetryPolicy(), [error]) == (error, [1], [])
    assert run(RetryPolicy(max_retry_after_seconds=61.0), [error])[1] == [1, 2]


def test_the_budget_is_shared_and_is_earned_by_requests():
    budget = RetryBudget(capacity=2.0, ratio=0.5)
    policy = RetryPolicy(max_attempts=9, budget=budget)
    # Its first request earns nothing: the budget is full.
    assert run(policy, [status_error(503)] * 9)[1] == [1, 2, 3]
    assert budget.balance == 0.0
    assert run(policy, [status_error(503)])[1] == [1]
    assert run(RetryPolicy(budget=budget), [], method="POST")[0] == "done"
    assert budget.balance == 1.0
    assert run(policy, [status_error(503)] * 9)[1] == [1, 2]
    assert budget.balance == 0.5


def test_an_error_that_is_not_repeated_spends_nothing():
    policy = RetryPolicy(max_attempts=1)
    before = policy.budget.balance
    run(policy, [status_error(503)])
    run(RetryPolicy(budget=policy.budget), [status_error(404)])
    run(RetryPolicy(budget=policy.budget), [status_error(503, Retry_After="999")])
    assert policy.budget.balance == before


def test_policies_have_budgets_of_their_own():
    assert RetryPolicy().budget is not RetryPolicy().budget


def test_a_cancellation_in_a_pause_ends_it():
    async def main() -> int:
        numbers = []

        async def attempt(number: int) -> None:
            numbers.append(number)
            raise status_error(503)

        policy = RetryPolicy(backoff_seconds=3600.0, max_backoff_seconds=3600.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                run_attempts(policy, attempt, method="GET", has_idempotency_key=False, rng=Top()),
                0.01,
            )
        return len(numbers)

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(backoff_seconds=-1.0),
        lambda: RetryPolicy(max_backoff_seconds=math.inf),
        lambda: RetryPolicy(max_retry_after_seconds=math.nan),
        lambda: RetryPolicy(statuses=frozenset({200})),
        lambda: RetryBudget(capacity=0.0),
        lambda: RetryBudget(ratio=-0.1),
    ],
)
def test_what_can_not_be_meant_raises(make):
    with pytest.raises(ConfigurationError):
        make()
