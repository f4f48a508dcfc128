"""Views that await asyncio or Deferreds, run in a thread, or run in order."""

import asyncio
import hashlib
import time

from twisted.internet.task import deferLater

from aiorest_ws import Application, MethodBasedView, Request, SimpleRouter


class Both(MethodBasedView):
    async def get(self, request: Request, pause_seconds=0.01):
        async with asyncio.timeout(10):
            await asyncio.sleep(pause_seconds)
        return await deferLater(request.factory.reactor, pause_seconds, lambda: "both")


class ADeferred(MethodBasedView):
    def get(self, request: Request, pause_seconds=0.01):
        return deferLater(request.factory.reactor, pause_seconds, lambda: "later")


class Digest(MethodBasedView):
    blocking = True

    def post(self, request: Request, text, rounds=1000):
        digest = hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", rounds)
        return digest.hex()


class Append(MethodBasedView):
    ordered = True
    lines = ()

    async def post(self, request: Request, line):
        lines = Append.lines
        await asyncio.sleep(0.01)
        Append.lines = (*lines, line)
        return len(Append.lines)


class Sleep(MethodBasedView):
    blocking = True

    def get(self, request: Request, seconds):
        time.sleep(seconds)
        return seconds


router = SimpleRouter()
router.register("/both", Both, methods="GET")
router.register("/deferred", ADeferred, methods="GET")
router.register("/digest", Digest, methods="POST")
router.register("/append", Append, methods="POST")
router.register("/sleep", Sleep, methods="GET")

app = Application(router=router, factory_options={"blocking_threads": 4})
