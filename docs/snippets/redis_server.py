"""A server with topics on the Redis server in TOPICS_URL."""

import os

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter


@endpoint("/orders/{order}", methods="PUT")
async def change(request, order):
    await request.factory.publish(f"orders/{order}", request.data, wait_seconds=5)


router = SimpleRouter()
router.register_endpoint(change)
router.register_topic("orders/{id}")

app = Application(router=router, topics=os.environ["TOPICS_URL"])
