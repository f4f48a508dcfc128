"""Middlewares that time calls, reject calls, and wait."""

import time

from twisted.internet.task import deferLater

from aiorest_ws import Application, BaseAPIException
from aiorest_ws.abstract import AbstractMiddleware
from first_server import router


class Stopwatch(AbstractMiddleware):
    request_attributes = ("started",)

    def process_request(self, request, handler):
        request.started = time.perf_counter()

    def process_response(self, request, response):
        seconds = time.perf_counter() - request.started
        response.content["took_ms"] = round(seconds * 1000, 3)


class ApiKey(AbstractMiddleware):
    def process_request(self, request, handler):
        if getattr(request, "api_key", None) != "letmein":
            raise BaseAPIException("An `api_key` is needed.", status=401)


class Quota(AbstractMiddleware):
    async def process_request(self, request, handler):
        left = await deferLater(request.factory.reactor, 0, lambda: 99)
        if not left:
            raise BaseAPIException("The quota is used up.", status=429)


app = Application(router=router, middlewares=(Stopwatch, ApiKey, Quota))
