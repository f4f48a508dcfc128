"""Topics with the four policies for slow clients."""

from aiorest_ws import Application, Limits, MethodBasedView, Request, SimpleRouter

router = SimpleRouter()
router.register_topic("news", policy="drop_oldest")
router.register_topic("prices", policy="latest")
router.register_topic("orders", policy="disconnect")
router.register_topic("export", policy="block")


class Price(MethodBasedView):
    async def put(self, request: Request, share, price):
        await request.factory.publish("prices", [share, price], key=share)


class Export(MethodBasedView):
    async def post(self, request: Request, rows):
        for row in range(rows):
            await request.factory.publish("export", {"row": row}, block=True)
        return rows


router.register("/prices/{share}", Price, methods="PUT")
router.register("/export", Export, methods="POST")

app = Application(router=router, limits=Limits(push_bytes=256 * 1024))
