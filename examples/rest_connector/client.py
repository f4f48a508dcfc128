"""A connector for the shop of server.py: limits, retries, errors, a large body."""

import asyncio
import sys
import uuid

from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    HTTPStatusError,
    RateLimit,
    RESTMethod,
    RESTRequest,
    RetryPolicy,
)

LIMIT = RateLimit("shop", limit=20, time_interval=0.5)


class Shop:
    """What can be done in the shop, without a word about HTTP."""

    def __init__(self, url):
        self._url = url.rstrip("/")
        self._factory = ConnectionManagersFactory(
            AsyncThrottler([LIMIT]), retry=RetryPolicy(backoff_seconds=0.05)
        )

    async def __aenter__(self):
        self._manager = await self._factory.get_rest_manager()
        return self

    async def __aexit__(self, *error):
        await self._factory.close()

    async def product(self, number):
        return await self._call(f"/products/{number}")

    async def sold(self):
        return (await self._call("/report"))["sold"]

    async def order(self, product, count):
        """Place one order, however often it has to be sent."""
        return await self._call(
            "/orders",
            method=RESTMethod.POST,
            data={"product": product, "count": count},
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )

    async def books(self):
        return await self._call("/books")

    async def export(self):
        """Give the stock list piece by piece; it need not fit into memory."""
        request = RESTRequest(
            RESTMethod.GET, f"{self._url}/export", throttler_limit_id=LIMIT.limit_id
        )
        async with await self._manager.call(request, timeout=60) as response:
            response.raise_for_status()
            async for piece in response.iter_bytes():
                yield piece

    async def _call(self, path, **options):
        return await self._manager.execute_request(
            f"{self._url}{path}", throttler_limit_id=LIMIT.limit_id, timeout=60, **options
        )


async def main(url="http://127.0.0.1:8080/"):
    async with Shop(url) as shop:
        products = await asyncio.gather(*(shop.product(number) for number in range(1, 41)))
        print(f"{len(products)} products, from {products[0]['name']} to {products[-1]['name']}")
        print(f"{await shop.sold()} sold: the third attempt was answered")
        placed = await shop.order(product=7, count=3)
        print(f"Ordered {placed['count']} of product {placed['product']}")
        try:
            await shop.product(99)
        except HTTPStatusError as error:
            print(f"No luck with product 99: {error.status} {error.body}")
        exported = [len(piece) async for piece in shop.export()]
        print(f"{sum(exported)} bytes of stock list, piece by piece")
        print(f"The books of the shop: {await shop.books()}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
