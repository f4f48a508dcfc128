"""Functions as views."""

import argparse

from aiorest_ws import Application, BaseAPIException, Request, SimpleRouter

router = SimpleRouter()


@router.get("/hello")
def hello(request: Request) -> str:
    return "Hello, world!"


@router.get("/hello/{name}", name="greeting")
def hello_name(request: Request, name: str) -> str:
    return f"Hello, {name}!"


@router.endpoint("/divide", methods=["GET", "POST"])
def divide(request: Request, a: float, b: float) -> float:
    if b == 0:
        raise BaseAPIException("Nothing can be divided by zero.", status=422)
    return a / b


app = Application(router=router)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    app.run(port=parser.parse_args().port)
