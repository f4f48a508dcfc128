"""Views that stream items."""

from twisted.internet import reactor
from twisted.internet.task import deferLater

from aiorest_ws import (
    Application,
    BaseAPIException,
    MethodBasedView,
    Request,
    SimpleRouter,
)


class Countdown(MethodBasedView):
    call_seconds = 600
    ended = 0

    async def get(self, request: Request, start):
        if int(start) > 1000:
            raise BaseAPIException("That is too far away.", status=422)
        try:
            for number in range(int(start), 0, -1):
                yield number
                await deferLater(reactor, 0.01)
        finally:
            Countdown.ended += 1


class Rows(MethodBasedView):
    async def get(self, request: Request):
        return self.rows(["one", "two"])

    async def rows(self, names):
        for name in names:
            yield {"name": name}
        raise BaseAPIException("The table has been locked.", status=409)


router = SimpleRouter()
router.register("/countdown/{start}", Countdown, methods="GET")
router.register("/rows", Rows, methods="GET")

app = Application(router=router)
