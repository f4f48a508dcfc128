"""Views that wait, each in its own way, and what a server does besides answering."""

import argparse
import asyncio
import hashlib

from twisted.internet.task import deferLater

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter

router = SimpleRouter()
app = Application(router=router)


@endpoint("/hello", methods="GET")
async def hello(request):
    return "Hello, world!"


@endpoint("/both", methods="GET")
async def both(request):
    """Wait for asyncio and for Twisted in one coroutine."""
    first = await asyncio.sleep(0.1, "asyncio")
    # Importing twisted.internet.reactor at the top would install the wrong one.
    second = await deferLater(request.factory.reactor, 0.1, lambda: "Twisted")
    return [first, second]


@endpoint("/deferred", methods="GET")
def deferred(request):
    return deferLater(request.factory.reactor, 0.3, lambda: "later")


@endpoint("/fingerprint", methods="POST", blocking=True)
def fingerprint(request, text):
    """Keep a thread busy, not the loop."""
    return hashlib.scrypt(text.encode(), salt=b"example", n=2**14, r=8, p=1, dklen=8).hex()


@endpoint("/calls", methods="GET")
async def calls(request):
    """Count the calls of one client."""
    request.connection.state.calls += 1
    return request.connection.state.calls


@endpoint("/chimes", methods="GET")
async def next_chime(request):
    """Wait for what a background task does."""
    async with request.factory.chimed:
        await request.factory.chimed.wait()
    return "ding"


@endpoint("/capitals/{country}", methods="GET")
async def capital(request, country):
    return {"France": "Paris", "Kenya": "Nairobi"}[country]


@app.error_handler(LookupError)
def not_found(request, exc):
    return BaseAPIException(f"Nothing is known of {exc}.", status=404)


@app.on_startup
async def start_the_clock(factory):
    factory.chimed = asyncio.Condition()
    factory.clock = asyncio.create_task(strike(factory.chimed))
    print("The clock runs.")


async def strike(chimed):
    while True:
        await asyncio.sleep(0.2)
        async with chimed:
            chimed.notify_all()


@app.on_shutdown
async def stop_the_clock(factory):
    factory.clock.cancel()
    print("The clock has stopped.")


@app.on_connect
async def greet(connection):
    connection.state.calls = 0


@app.on_disconnect
def part(connection):
    print(f"A client left after {connection.state.calls} calls.")


for view in (hello, both, deferred, fingerprint, calls, next_chime, capital):
    router.register_endpoint(view)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
