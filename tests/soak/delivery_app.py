"""Topics under load: `aiorest-ws run soak.delivery_app:application`.

AIOREST_WS_SOAK_TOPICS tells where they are kept, AIOREST_WS_SOAK_FAULT plants a fault.
"""

import os

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter
from soak import delivery_faults
from soak.delivery_names import HISTORIES


@endpoint("/publish", "POST")
async def publish(request, topic, wait=0.0):
    position = await request.factory.publish(topic, request.data, wait_seconds=wait)
    return {"epoch": position.epoch, "offset": position.offset}


def make_application() -> Application:
    router = SimpleRouter()
    router.register_endpoint(publish)
    for family, history in HISTORIES.items():
        router.register_topic(f"{family}/{{number}}", history=history)
    topics = os.environ.get("AIOREST_WS_SOAK_TOPICS")
    options = {"topics": topics} if topics else {}
    return Application(router=router, **options)


fault = os.environ.get("AIOREST_WS_SOAK_FAULT")
if fault:
    getattr(delivery_faults, fault)()
application = make_application()
