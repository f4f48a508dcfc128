"""A server with topics on the Redis server in TOPICS_URL."""

import os

from aiorest_ws import Application, Request, SimpleRouter

router = SimpleRouter()


@router.put("/orders/{order}")
async def change(request: Request, order: str) -> None:
    await request.factory.publish(f"orders/{order}", request.data, wait_seconds=5)


router.register_topic("orders/{id}")

app = Application(router=router, topics=os.environ["TOPICS_URL"])
