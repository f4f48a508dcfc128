"""Functions as views."""

import argparse

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter


@endpoint("/hello", methods="GET")
def hello(request):
    return "Hello, world!"


@endpoint("/hello/{name}", methods="GET", name="greeting")
def hello_name(request, name):
    return f"Hello, {name}!"


@endpoint("/divide", methods=["GET", "POST"])
def divide(request, a, b):
    if b == 0:
        raise BaseAPIException("Nothing can be divided by zero.", status=422)
    return a / b


router = SimpleRouter()
router.register_endpoint(hello)
router.register_endpoint(hello_name)
router.register_endpoint(divide)

app = Application(router=router)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
