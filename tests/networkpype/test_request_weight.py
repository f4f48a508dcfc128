"""One request may count as several."""

import asyncio

import pytest
from throttlers import now, turns

from networkpype.auth import APIKeyAuth
from networkpype.exceptions import ConfigurationError
from networkpype.factory import ConnectionManagersFactory
from networkpype.rest.method import RESTMethod
from networkpype.rest.request import RESTRequest
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.throttler import AsyncThrottler


def make() -> AsyncThrottler:
    links = [LinkedLimitWeightPair("pool", 2)]
    return AsyncThrottler(
        [RateLimit("depth", 50, 1.0, 1, links), RateLimit("pool", 20, 1.0)],
        safety_margin_pct=0.0,
        server_limits=None,
    )


@pytest.mark.parametrize(("weight", "admitted"), [(1, 10), (2, 5), (3, 3), (10, 1)])
def test_a_request_counts_as_many_in_all_its_limits(virtual, weight, admitted):
    async def main() -> None:
        throttler = make()
        for _ in range(admitted):
            assert throttler.estimate_wait("depth", weight=weight) == 0.0
            assert throttler.try_acquire("depth", weight=weight)
        assert not throttler.try_acquire("depth", weight=weight)
        assert throttler.estimate_wait("depth", weight=weight) == 1.0
        assert throttler.try_acquire("depth", weight=0)
        await throttler.execute_task("depth", weight=weight).acquire()
        async with throttler.hold("depth", weight=weight) as hold:
            hold.count()
        assert now() == (1.0 if admitted > 1 else 2.0)

    virtual(main())


@pytest.mark.parametrize("weight", [11, -1, 1.5, "2", None])
def test_a_weight_that_cannot_fit_raises(virtual, weight):
    async def main() -> None:
        throttler = make()
        for ask in (throttler.execute_task, throttler.try_acquire, throttler.estimate_wait):
            with pytest.raises(ConfigurationError):
                ask("depth", weight=weight)
        with pytest.raises(ConfigurationError):
            async with throttler.hold("depth", weight=weight):
                pass

    virtual(main())


def test_waiters_keep_their_weight_when_the_limits_change(virtual):
    async def main() -> None:
        throttler = make()
        assert throttler.try_acquire("depth", weight=10)
        heavy = asyncio.ensure_future(throttler.execute_task("depth", weight=5).acquire())
        hopeless = asyncio.ensure_future(throttler.execute_task("depth", weight=9).acquire())
        await turns()
        throttler.rate_limits = [
            RateLimit("depth", 50, 1.0, 1, [LinkedLimitWeightPair("pool", 3)]),
            RateLimit("pool", 20, 1.0),
        ]
        with pytest.raises(ConfigurationError, match="27 of 'pool', which allows 20"):
            await hopeless
        await heavy
        assert now() == 1.0
        assert throttler.try_acquire("depth")
        assert not throttler.try_acquire("depth")

    virtual(main())


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_manager_takes_a_number_or_a_function(run, serve, is_signed):
    def by_depth(request: RESTRequest) -> int:
        return 8 if int((request.params or {}).get("limit", 0)) > 100 else 1

    async def main() -> None:
        throttler = make()
        async with (
            serve() as server,
            ConnectionManagersFactory(throttler, APIKeyAuth("key")) as factory,
        ):
            manager = await factory.get_rest_manager()
            options = {"is_auth_required": is_signed}
            await manager.execute_request(
                server.url(), "depth", {"limit": 500}, weight=by_depth, **options
            )
            assert throttler.estimate_wait("depth", weight=3) > 0.0
            await manager.execute_request(
                server.url(), "depth", {"limit": 5}, weight=by_depth, **options
            )
            request = RESTRequest(
                RESTMethod.GET, server.url(), throttler_limit_id="depth", **options
            )
            assert throttler.estimate_wait("depth", weight=1) == 0.0
            async with await manager.call(request, weight=1):
                pass
            assert throttler.estimate_wait("depth") > 0.0
            with pytest.raises(ConfigurationError, match="weight 11"):
                await manager.call(request, weight=11)
            with pytest.raises(ConfigurationError, match="weight 11"):
                await manager.execute_request(server.url(), "depth", weight=lambda _: 11)
        assert len(server.seen) == 3

    run(main())
