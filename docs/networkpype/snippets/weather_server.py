"""The tutorial's server: 5 requests in any second; reports require a key."""

import argparse
import socket
import time
from collections import deque

from aiohttp import web

routes = web.RouteTableDef()
arrivals = deque()
reports = []


@web.middleware
async def limit(request, handler):
    now = time.monotonic()
    while arrivals and now - arrivals[0] >= 1.0:
        arrivals.popleft()
    if len(arrivals) == 5:
        return web.json_response({"error": "too fast"}, status=429)
    arrivals.append(now)
    return await handler(request)


@routes.get("/weather/{city}")
async def weather(request):
    known = {"Oslo": 7, "Quito": 19, "Hanoi": 31}
    city = request.match_info["city"]
    if city not in known:
        return web.json_response({"error": f"no station in {city}"}, status=404)
    return web.json_response({"city": city, "celsius": known[city]})


@routes.post("/reports")
async def report(request):
    if request.headers.get("X-API-Key") != "tutorial":
        return web.json_response({"error": "who are you?"}, status=401)
    reports.append(await request.json())
    return web.json_response({"reports": len(reports)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    listening = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"Serving http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    app = web.Application(middlewares=[limit])
    app.add_routes(routes)
    web.run_app(app, sock=listening, print=None, access_log=None)
