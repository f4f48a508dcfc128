"""The server of behaviour.json: its routes make it fail, close and publish on demand."""

import asyncio

from aiorest_ws import Application, BaseAPIException, Request, SimpleRouter
from aiorest_ws.exceptions import ServiceUnavailable

router = SimpleRouter()
router.register_topic("news/{name}")
counts: dict[str, int] = {}


def refuse_twice(request: Request, topic: str) -> bool:
    counts[topic] = counts.get(topic, 0) + 1
    if counts[topic] <= 2:
        raise ServiceUnavailable
    return True


busy = router.topic("busy/{name}", on_subscribe=refuse_twice)


class Failure(BaseAPIException):
    """A failure with the status that the client asks for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Failure {status}.")
        self.status = status


@router.endpoint("/echo", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def echo(request: Request):
    return {"method": request.method, "data": request.data}


@router.get("/add")
def add(request: Request, a: int, b: int = 1):
    return a + b


@router.get("/fail/{status}")
def fail(request: Request, status: int):
    raise Failure(int(status))


@router.get("/bug")
def bug(request: Request):
    raise KeyError("secret")


@router.get("/count/{name}")
def count(request: Request, name: str):
    return counts.get(name, 0)


@router.get("/count/busy/{name}")
def count_of_topic(request: Request, name: str):
    return counts.get(f"busy/{name}", 0)


@router.get("/numbers")
async def numbers(request: Request, count: int, fail_at: int = -1):
    for number in range(count):
        if number == fail_at:
            raise Failure(409)
        yield number


@router.get("/wait/{name}")
async def wait(request: Request, name: str):
    try:
        await asyncio.Event().wait()
    finally:
        counts[name] = counts.get(name, 0) + 1


@router.get("/endless/{name}")
async def endless(request: Request, name: str):
    try:
        while True:
            yield "x"
            await asyncio.sleep(0.001)
    finally:
        counts[name] = counts.get(name, 0) + 1


def end(request: Request, code: int, reason: str) -> None:
    if code == 1006:
        request.connection.transport.abortConnection()
    else:
        request.connection.sendCloseFrame(code=code, reasonUtf8=reason.encode(), isReply=False)


@router.endpoint("/close", ["GET", "POST"])
async def close(request: Request, name: str, code: int, times: int = 1, reason: str = ""):
    """Close without an answer, the first `times` times."""
    counts[name] = counts.get(name, 0) + 1
    if counts[name] <= times:
        end(request, code, reason)
        await asyncio.Event().wait()
    return counts[name]


@router.post("/publish/{name}")
async def publish(request: Request, name: str, count: int, first: int = 0):
    for number in range(first, first + count):
        await request.factory.publish(f"news/{name}", number)
    return count


@router.post("/publish-and-close/{name}")
async def publish_and_close(request: Request, name: str, first: int, code: int, count: int):
    """Close this connection, then publish what it misses."""
    end(request, code, "retry 1-20" if code == 1012 else "")
    await publish(request, name, count, first)


@router.post("/publish-busy")
async def publish_busy(request: Request):
    await busy.publish("now", name="x")


app = Application(router=router)
