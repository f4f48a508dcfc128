"""Calls with deadlines."""

import asyncio

from aiorest_ws import Application, Limits, MethodBasedView, Request, SimpleRouter


class Report(MethodBasedView):
    call_seconds = 60
    undone = ()

    async def get(self, request: Request, name):
        try:
            return await self.make(name)
        except asyncio.CancelledError:
            Report.undone = (*Report.undone, name)
            raise

    async def make(self, name):
        await asyncio.sleep(3600 if name == "long" else 0)
        return f"The {name} report"


router = SimpleRouter()
router.register("/reports/{name}", Report, methods="GET")

app = Application(router=router, limits=Limits(call_seconds=5))
