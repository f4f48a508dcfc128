"""What a program does with the connector."""

import asyncio
import sys

from connector import ExchangeConnector, ExchangeError, make_throttler


async def main(url="http://127.0.0.1:8080/"):
    throttler = make_throttler()
    async with ExchangeConnector(url, "demo-key", "demo-secret", throttler=throttler) as exchange:
        await trade(exchange)
    async with ExchangeConnector(url, "demo-key", "a guess", throttler=throttler) as exchange:
        await show_refusal("wrong secret", exchange)
    async with ExchangeConnector(
        url, "demo-key", "demo-secret", throttler=throttler, knows_clock=False
    ) as exchange:
        await show_refusal("our own clock", exchange)


async def trade(exchange):
    print("TEAUSD costs", await exchange.price("TEAUSD"))
    try:
        await exchange.price("SANDUSD")
    except ExchangeError as error:
        print("SANDUSD:", error)
    print("balance:", await exchange.balance())

    updates = exchange.order_updates()
    print("stream:", await anext(updates))
    # All at once; the connector has them wait for their turn.
    placed = await asyncio.gather(*(exchange.buy("TEAUSD", number) for number in range(1, 21)))
    print(len(placed), "orders placed,", {order["status"] for order in placed})
    filled = [(await anext(updates))["orderId"] for _ in placed]
    print("stream:", len(set(filled)), "orders filled")
    await updates.aclose()

    prices = await asyncio.gather(*(exchange.price("MILKUSD") for _ in range(40)))
    print(len(prices), "prices,", set(prices))
    print("balance:", await exchange.balance())


async def show_refusal(title, exchange):
    try:
        await exchange.balance()
    except ExchangeError as error:
        print(f"{title}: {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
