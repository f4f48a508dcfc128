"""Clocks after a suspend of the machine, and time providers without an answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from networkpype.auth import Token, TokenAuth
from networkpype.exceptions import AuthError, ConfigurationError, DeadlineExceeded
from networkpype.rest.method import RESTMethod
from networkpype.rest.processor.time_synchronizer import TimeSynchronizerRESTPreProcessor
from networkpype.rest.request import RESTRequest
from networkpype.time_synchronizer import TimeSynchronizer

Run = Callable[[Any], Any]


class Clocks:
    """A steady clock that stands still in a suspension, and a wall clock that goes on."""

    def __init__(self) -> None:
        self.steady = 1000.0
        self.wall = 1_700_000_000.0

    def work(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds

    def options(self) -> dict[str, Callable[[], float]]:
        return {"clock": lambda: self.steady, "wall_clock": lambda: self.wall}


def suspend(clocks: Clocks) -> None:
    clocks.wall += 3600.0


def suspend_shortly(clocks: Clocks) -> None:
    clocks.wall += 1.5


def set_back(clocks: Clocks) -> None:
    clocks.wall -= 300.0


def lose_the_steady_clock(clocks: Clocks) -> None:
    clocks.steady += 50.0


JUMPS = [suspend, suspend_shortly, set_back, lose_the_steady_clock]
USES: dict[str, Callable[[TimeSynchronizer], object]] = {
    "time": lambda synchronizer: synchronizer.time(),
    "offset": lambda synchronizer: synchronizer.time_offset_ms,
    "is_initialized": lambda synchronizer: synchronizer.is_initialized,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("jump", JUMPS)
def test_samples_from_before_a_jump_are_dropped(jump: Callable[[Clocks], None], use: str) -> None:
    """The time is that of the wall clock until there is a new sample."""
    clocks = Clocks()
    synchronizer = TimeSynchronizer(**clocks.options())
    for _ in range(3):
        synchronizer.add_time_offset_ms_sample(1_700_000_007_000.0 - 1_000_000.0)
        clocks.work(1000.0)
    assert synchronizer.time() == pytest.approx(1_700_000_007.0 + 3000.0)
    jump(clocks)
    USES[use](synchronizer)
    assert synchronizer.time() == clocks.wall
    assert synchronizer.time_offset_ms == pytest.approx((clocks.wall - clocks.steady) * 1000)
    assert not synchronizer.is_initialized
    synchronizer.add_time_offset_ms_sample(5.0)
    assert synchronizer.time_offset_ms == 5.0


@pytest.mark.parametrize("jump", JUMPS)
def test_sample_after_a_jump_is_not_mixed_with_older_ones(jump: Callable[[Clocks], None]) -> None:
    """Nor does the offset move gradually from the old one."""
    clocks = Clocks()
    synchronizer = TimeSynchronizer(max_slew_ms_per_second=1.0, **clocks.options())
    synchronizer.add_time_offset_ms_sample(1000.0)
    jump(clocks)
    synchronizer.add_time_offset_ms_sample(5.0)
    assert synchronizer.time_offset_ms == 5.0


def test_slow_adjustments_are_no_jump() -> None:
    """A wall clock that is slewed drops nothing."""
    clocks = Clocks()
    synchronizer = TimeSynchronizer(**clocks.options())
    synchronizer.add_time_offset_ms_sample(5.0)
    for _ in range(100):
        clocks.work(60.0)
        clocks.wall += 0.5
        synchronizer.time()
    assert synchronizer.is_initialized


def test_sample_across_a_jump_is_dropped(run: Run) -> None:
    """Nobody knows on which side the server looked at its clock; the next one counts."""

    async def scenario() -> None:
        clocks = Clocks()
        synchronizer = TimeSynchronizer(**clocks.options())
        answers = iter((suspend, lambda _: None))

        async def server_time() -> float:
            next(answers)(clocks)
            return clocks.wall * 1000

        for is_initialized in (False, True):
            await synchronizer.update_server_time_if_not_initialized(server_time())
            assert synchronizer.is_initialized is is_initialized

    run(scenario())


def test_first_request_after_a_jump_takes_a_new_sample(run: Run) -> None:
    """By the pre-processor, before it is signed."""

    async def scenario() -> None:
        clocks = Clocks()
        synchronizer = TimeSynchronizer(**clocks.options())
        asked = []

        async def server_time() -> float:
            asked.append(clocks.wall)
            return clocks.wall * 1000 + 7000

        processor = TimeSynchronizerRESTPreProcessor(synchronizer, server_time)
        for jump in (lambda _: None, lambda _: None, suspend, lambda _: None):
            jump(clocks)
            await processor.before_admission()
            assert synchronizer.time() == pytest.approx(clocks.wall + 7)
        assert len(asked) == 2

    run(scenario())


def test_default_clock_goes_on_in_a_suspension() -> None:
    """Where the system has such a clock."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("only Linux has it")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    synchronizer = TimeSynchronizer()
    synchronizer.add_time_offset_ms_sample(0.0)
    assert before <= synchronizer.time() <= time.clock_gettime(time.CLOCK_BOOTTIME)


# --- tokens ---


class Issuer:
    def __init__(self, expires_in_s: float | None) -> None:
        self.count = 0
        self._expires_in_s = expires_in_s

    async def __call__(self) -> Token:
        self.count += 1
        return Token(str(self.count), self._expires_in_s)


async def token_of(auth: TokenAuth) -> str:
    request = await auth.rest_authenticate(RESTRequest(RESTMethod.GET, "http://x/"))
    assert request.headers is not None
    return str(request.headers["Authorization"])


@pytest.mark.parametrize(
    ("steady", "wall", "is_new"),
    [
        (0.0, 3600.0, True),
        (10.0, 71.0, True),
        (71.0, 10.0, True),
        (71.0, -3600.0, True),
        (10.0, 10.0, False),
        (69.0, 69.0, False),
        (10.0, -3600.0, False),
    ],
)
def test_token_expires_by_the_clock_that_is_ahead(
    run: Run, steady: float, wall: float, is_new: bool
) -> None:
    """The steady clock stood still, or the wall clock was set back."""

    async def scenario() -> None:
        clocks, issuer = Clocks(), Issuer(100.0)
        auth = TokenAuth(issuer, refresh_ahead_s=30.0, **clocks.options())
        assert await token_of(auth) == "Bearer 1"
        clocks.steady += steady
        clocks.wall += wall
        assert await token_of(auth) == ("Bearer 2" if is_new else "Bearer 1")
        assert await token_of(auth) == ("Bearer 2" if is_new else "Bearer 1")

    run(scenario())


def test_token_that_expired_in_a_suspension_is_not_used_when_the_fetch_fails(run: Run) -> None:
    """A valid one is."""

    async def scenario() -> None:
        clocks = Clocks()
        answers = iter((Token("1", 100.0),))

        async def fetch() -> Token:
            return next(answers)

        auth = TokenAuth(fetch, refresh_ahead_s=30.0, **clocks.options())
        assert await token_of(auth) == "Bearer 1"
        clocks.wall += 80.0
        assert await token_of(auth) == "Bearer 1"
        clocks.wall += 80.0
        with pytest.raises(AuthError):
            await token_of(auth)

    run(scenario())


def test_token_without_a_lifetime_never_expires(run: Run) -> None:
    """Whatever the clocks do."""

    async def scenario() -> None:
        clocks, issuer = Clocks(), Issuer(None)
        auth = TokenAuth(issuer, **clocks.options())
        for jump in JUMPS:
            assert await token_of(auth) == "Bearer 1"
            jump(clocks)
        assert await token_of(auth) == "Bearer 1"

    run(scenario())


# --- providers that hang ---


async def hang() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["update", "first", "processor"])
def test_hung_time_provider_is_not_joined_for_ever(run: Run, way: str) -> None:
    """Everybody who waits for it is let go, and the next one asks again."""

    async def scenario() -> None:
        synchronizer = TimeSynchronizer(provider_timeout_s=0.05)
        providers: list[Callable[[], Awaitable[float]]] = [hang, hang]

        async def ask() -> float:
            return await (providers.pop(0)() if providers else asyncio.sleep(0, 5.0))

        processor = TimeSynchronizerRESTPreProcessor(synchronizer, ask)

        async def use() -> None:
            if way == "update":
                await synchronizer.update_server_time_offset_with_time_provider(ask())
            elif way == "first":
                await synchronizer.update_server_time_if_not_initialized(ask())
            else:
                await processor.before_admission()

        while providers:
            outcomes = await asyncio.gather(*(use() for _ in range(2)), return_exceptions=True)
            assert all(isinstance(outcome, DeadlineExceeded) for outcome in outcomes)
        await use()
        assert synchronizer.is_initialized

    run(scenario())


def test_timeout_of_the_provider_itself_is_left_alone(run: Run) -> None:
    """Its text says more than ours."""

    async def slow() -> float:
        raise TimeoutError("of the provider")

    async def scenario() -> None:
        with pytest.raises(TimeoutError, match="of the provider"):
            await TimeSynchronizer().update_server_time_offset_with_time_provider(slow())

    run(scenario())


def test_hung_fetch_of_a_token_is_not_joined_for_ever(run: Run) -> None:
    """The requests that wait for it fail, and the next one fetches again."""

    async def scenario() -> None:
        fetches = [hang]

        async def fetch() -> Token:
            if fetches:
                await fetches.pop()()
            return Token("x")

        auth = TokenAuth(fetch, fetch_timeout_s=0.05)
        outcomes = await asyncio.gather(
            *(token_of(auth) for _ in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [AuthError] * 3
        assert await token_of(auth) == "Bearer x"

    run(scenario())


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_timeouts_must_be_positive(seconds: float) -> None:
    with pytest.raises(ConfigurationError):
        TimeSynchronizer(provider_timeout_s=seconds)
    with pytest.raises(ConfigurationError):
        TokenAuth(hang, fetch_timeout_s=seconds)
