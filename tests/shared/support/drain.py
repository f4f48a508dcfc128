"""A call, and its refusal by a server that stops."""

import json

from aiorest_ws.decorators import endpoint

STOPPING = "The server is shutting down."


def call(view, request_id=1):
    return json.dumps({"method": "GET", "url": view, "id": request_id})


REFUSED = {"detail": STOPPING, "status": 503, "event_name": None, "id": 1}


@endpoint("/hello", "GET")
def hello(request):
    return "hello"
