"""Register topics, publish and subscribe."""

import itertools
import logging

from twisted.internet.task import LoopingCall

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter


class Order(MethodBasedView):
    """Publish from a coroutine."""

    async def put(self, request: Request, order):
        position = await request.factory.publish(f"orders/{order}", request.data)
        return {"published": position.offset}


class Report(MethodBasedView):
    """Publish from a thread."""

    blocking = True

    def post(self, request: Request):
        rows = sum(1 for _ in range(100_000))  # slow work
        request.factory.publish_from_thread("reports", {"rows": rows})
        return rows


class Basket(MethodBasedView):
    """Subscribe the client that makes the call."""

    async def post(self, request: Request):
        orders = [f"orders/{number}" for number in request.data]
        for topic in orders:
            await request.connection.subscribe(topic, request=request)
        return orders


def is_of_caller(request: Request, topic):
    """Allow an order to its owner only: return True to let the client in."""
    return not topic.endswith("/13")


def who_is_there(request: Request):
    """Return what other subscribers may see of this one."""
    return {"name": str(getattr(request, "name", "somebody"))[:20]}


router = SimpleRouter()
router.register("/orders/{order}", Order, methods="PUT")
router.register("/reports", Report, methods="POST")
router.register("/basket", Basket, methods="POST")

router.register_topic("orders/{id}", on_subscribe=is_of_caller)
router.register_topic("reports", history=10)
router.register_topic("ticks", history=0)
router.register_topic("rooms/{room}", presence=True)

app = Application(router=router, presence_info=who_is_there)


@app.on_startup
def tick(factory):
    numbers = itertools.count(1)

    def tell():
        return factory.publish("ticks", next(numbers)).addErrback(complain)

    factory.ticking = LoopingCall(tell)
    factory.ticking.clock = factory.reactor
    factory.ticking.start(1)


def complain(failure):
    logging.warning("A tick was not published: %s", failure.getErrorMessage())


@app.on_shutdown
def stop_ticking(factory):
    factory.ticking.stop()
