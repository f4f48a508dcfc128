"""A connector of networkpype works with an exchange that bans, drops, restarts and misleads it."""

import asyncio
import itertools

import pytest

from soak.connector import Connector
from soak.exchange import (
    MESSAGES_PER_SECOND,
    ORDERS_PER_SECOND,
    Exchange,
    Wall,
    most_in_a_window,
)
from soak.scale import number

pytestmark = pytest.mark.soak

SECONDS = number("connector_seconds", 14, 600)
SUSPENDED_SECONDS = 3600.0
# Between two faults; a recovery with its subscriptions takes some 1.3 s.
PAUSE_SECONDS = 2.0
WEATHER = ("ban", "silence", "suspend", "restart", "greet and close", "close")


async def make_weather(exchange: Exchange, wall: Wall) -> None:
    for weather in itertools.cycle(WEATHER):
        await asyncio.sleep(PAUSE_SECONDS)
        exchange.seen[weather] += 1
        if weather == "ban":
            exchange.order_ban.start()
            exchange.handshake_ban.start()
            exchange.close_feeds()
        elif weather == "silence":
            exchange.silence_feeds()
        elif weather == "suspend":
            wall.suspend(SUSPENDED_SECONDS)
            exchange.note_jump()
        elif weather == "restart":
            await exchange.stop()
            await asyncio.sleep(0.2)
            await exchange.start()
        elif weather == "greet and close":
            exchange.closes_at_once = True
            exchange.close_feeds()
            await asyncio.sleep(PAUSE_SECONDS)
            exchange.closes_at_once = False
        else:
            exchange.close_feeds()


async def work() -> tuple[Exchange, Connector]:
    wall = Wall()
    exchange = Exchange(wall)
    await exchange.start()
    connector = Connector(exchange.url, wall)
    weather = asyncio.create_task(make_weather(exchange, wall))
    try:
        await asyncio.wait_for(connector.run(SECONDS), SECONDS + 60)
    finally:
        weather.cancel()
        await asyncio.wait((weather,))
        await exchange.stop()
    return exchange, connector


def test_connector_keeps_its_word_whatever_the_exchange_does(say):
    exchange, connector = asyncio.run(work())
    answered, maybe, refused = connector.answered, connector.maybe, connector.refused
    say(
        answered=len(answered),
        maybe=len(maybe),
        surely_refused=len(refused),
        orders_in_a_second=most_in_a_window(exchange.arrivals, 1.0),
        messages_in_a_second=most_in_a_window(exchange.messages, 1.0),
        **connector.seen,
        **exchange.seen,
    )
    # Nothing was done that the rules of the exchange forbid.
    assert not exchange.faults, exchange.faults[:10]
    assert not connector.untold_gaps, connector.untold_gaps[:10]
    assert most_in_a_window(exchange.arrivals, 1.0) <= ORDERS_PER_SECOND
    assert most_in_a_window(exchange.messages, 1.0) <= MESSAGES_PER_SECOND
    # What was answered was executed once, what was executed is known.
    assert {order for order in answered if exchange.executed[order] != 1} == set()
    assert set(exchange.executed) <= answered | maybe
    assert max(exchange.executed.values()) == 1
    assert {order for order in refused if exchange.processed[order]} == set()
    # An order that may have been executed is not sent again, unless it is idempotent.
    again = {order for order, count in exchange.processed.items() if count > 1}
    assert again <= connector.idempotent
    # The proof of the proof: everything happened, and work was done meanwhile.
    for name in ("drop before", "drop after", "fail after", "foreign headers", "refused"):
        assert exchange.seen[name], exchange.seen
    assert all(exchange.seen[name] for name in WEATHER), exchange.seen
    assert exchange.seen["greeted and closed"]
    assert maybe
    assert again
    assert len(answered) > SECONDS * ORDERS_PER_SECOND / 4
    assert connector.seen["gaps"] >= sum(exchange.seen[name] for name in WEATHER) / 4
    assert connector.seen["ticks"] > SECONDS
    assert connector.seen["chats"]
