"""Hooks that run when a server starts and stops, and when a client comes and goes."""

import itertools

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter


class Visit(MethodBasedView):
    def get(self, request: Request):
        state = request.connection.state
        state.calls += 1
        return {"visitor": state.visitor, "calls": state.calls}


router = SimpleRouter()
router.register("/visit", Visit, methods="GET")

app = Application(router=router)


@app.on_startup
async def prepare(factory):
    factory.visitors = itertools.count(1)
    factory.log = ["open"]


@app.on_connect
async def greet(connection):
    connection.state.visitor = next(connection.factory.visitors)
    connection.state.calls = 0


@app.on_disconnect
def part(connection):
    visitor, code = connection.state.visitor, connection.close_reason.code
    connection.factory.log.append(f"{visitor} left with {code}")


@app.on_shutdown
async def finish(factory):
    factory.log.append("closed")
