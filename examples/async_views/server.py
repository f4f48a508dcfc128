"""Views that wait, each in its own way, and what a server does besides answering."""

import argparse
import asyncio
import hashlib

from twisted.internet.task import deferLater

from aiorest_ws import Application, BaseAPIException, Request, SimpleRouter

router = SimpleRouter()
app = Application(router=router)


@router.get("/hello")
async def hello(request: Request):
    return "Hello, world!"


@router.get("/both")
async def both(request: Request):
    """Wait for asyncio and for Twisted in one coroutine."""
    first = await asyncio.sleep(0.1, "asyncio")
    # Importing twisted.internet.reactor at the top would install the wrong one.
    second = await deferLater(request.factory.reactor, 0.1, lambda: "Twisted")
    return [first, second]


@router.get("/deferred")
def deferred(request: Request):
    return deferLater(request.factory.reactor, 0.3, lambda: "later")


@router.post("/fingerprint", blocking=True)
def fingerprint(request: Request, text):
    """Keep a thread busy, not the loop."""
    return hashlib.scrypt(text.encode(), salt=b"example", n=2**14, r=8, p=1, dklen=8).hex()


@router.get("/calls")
async def calls(request: Request):
    """Count the calls of one client."""
    request.connection.state.calls += 1
    return request.connection.state.calls


@router.get("/chimes")
async def next_chime(request: Request):
    """Wait for what a background task does."""
    async with request.factory.chimed:
        await request.factory.chimed.wait()
    return "ding"


@router.get("/capitals/{country}")
async def capital(request: Request, country):
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
