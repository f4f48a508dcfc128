"""The demo: a small API, and a client that calls it over a socket."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.python.failure import Failure

from aiorest_ws.app import Application
from aiorest_ws.exceptions import BaseAPIException
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.views import MethodBasedView
from aiorest_ws.wrappers import Request

__all__ = ("CALLS", "DemoClient", "make_router", "run_demo")

HOST = "127.0.0.1"
PREFERRED_PORT = 8080
ANSWER_SECONDS = 30

# (request, whether it is sent as a binary message)
CALLS: tuple[tuple[dict[str, Any], bool], ...] = (
    ({"method": "GET", "url": "/hello"}, False),
    ({"method": "GET", "url": "/hello/Ada", "event_name": "greeting"}, False),
    ({"method": "POST", "url": "/calculator", "args": {"a": 6, "b": 7, "operator": "*"}}, False),
    ({"method": "POST", "url": "/calculator", "args": {"a": 1, "b": 0, "operator": "/"}}, False),
    ({"method": "GET", "url": "/clock", "id": 1}, False),
    ({"method": "GET", "url": "/hello/Grace"}, True),
    ({"method": "GET", "url": "/clock", "args": {"utc_offset_hours": 2}, "id": 2}, True),
    ({"method": "GET", "url": "/nowhere"}, False),
)


class Calculator(MethodBasedView):
    """Add, subtract, multiply and divide."""

    def post(self, request: Request, a: float, b: float, operator: str = "+") -> float:  # noqa: ARG002
        """Return the result of one operation."""
        if not all(isinstance(value, (int, float)) for value in (a, b)):
            raise BaseAPIException("`a` and `b` must be numbers.")
        if operator == "/" and b == 0:
            raise BaseAPIException("Nothing can be divided by zero.")
        results: dict[str, Callable[[], float]] = {
            "+": lambda: a + b,
            "-": lambda: a - b,
            "*": lambda: a * b,
            "/": lambda: a / b,
        }
        if operator not in results:
            raise BaseAPIException(f"There is no operator {operator!r}.")
        return results[operator]()


class Clock(MethodBasedView):
    """Tell the time, after a pause that does not block other calls."""

    async def get(self, request: Request, utc_offset_hours: int = 0) -> dict[str, Any]:  # noqa: ARG002
        """Return the time of day."""
        await asyncio.sleep(0.1)
        now = datetime.now(timezone(timedelta(hours=utc_offset_hours)))
        return {"time": now.strftime("%H:%M:%S"), "utc_offset_hours": utc_offset_hours}


def make_router() -> SimpleRouter:
    """Return the demo's API."""
    router = SimpleRouter()

    @router.get("/hello")
    def hello(request: Request) -> str:  # noqa: ARG001
        return "Hello, world!"

    @router.get("/hello/{name}")
    def hello_name(request: Request, name: str) -> str:  # noqa: ARG001
        return f"Hello, {name}!"

    router.register("/calculator", Calculator, methods=["POST"])
    router.register("/clock", Clock, methods=["GET"])
    return router


class DemoClientFactory(WebSocketClientFactory):
    """Makes one client; `done` fires when it has all replies."""

    def __init__(self, url: str, reactor: Any) -> None:
        super().__init__(url, reactor=reactor)  # type: ignore[no-untyped-call]
        self.protocol = DemoClient
        self.done: Deferred[None] = Deferred()


class DemoClient(WebSocketClientProtocol):
    """Sends the calls one after another, and prints requests and replies."""

    def onOpen(self) -> None:
        """Send the first call."""
        self._remaining = iter(CALLS)
        self._send_next()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Print a reply and send the next call."""
        text = base64.b64decode(payload).decode() if isBinary else payload.decode()
        print(f"  <-- {_form(isBinary)} {text}\n")  # noqa: T201  the output of the demo
        self._send_next()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: ARG002
        """End the demo; fail if replies are missing."""
        if not self.factory.done.called:
            self.factory.done.errback(ConnectionError(f"closed early: {code} {reason}"))

    def _send_next(self) -> None:
        call = next(self._remaining, None)
        if call is None:
            self.factory.done.callback(None)
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
            return
        request, is_binary = call
        text = json.dumps(request)
        print(f"  --> {_form(is_binary)} {text}")  # noqa: T201
        self.sendMessage(  # type: ignore[no-untyped-call]
            base64.b64encode(text.encode()) if is_binary else text.encode(), is_binary
        )


def run_demo(port: int | None = None, *, once: bool = False) -> None:
    """Serve the demo's API and call it; go on serving until Ctrl-C unless `once`.

    Without a port it takes 8080, or a free one if that is busy. Blocks; raises the exception of a
    call that failed.
    """
    service = Application(router=make_router()).tcp_service(
        HOST, _preferred_port() if port is None else port, log_level="warning"
    )
    reactor = service.factory.reactor
    failures: list[Failure] = []

    def called(result: Any) -> None:
        if isinstance(result, Failure):
            failures.append(result)
        if once or failures:
            reactor.stop()
        else:
            words = "The server is still running: call it yourself, or stop it with Ctrl-C."
            print(words, flush=True)  # noqa: T201

    service.listening.addCallback(_call, reactor).addBoth(called)
    service.run()
    for failure in failures:
        failure.raiseException()


def _preferred_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PREFERRED_PORT))
        except OSError:
            return 0
    return PREFERRED_PORT


def _call(listening: Any, reactor: Any) -> Deferred[None]:
    """Connect to the server and make all calls."""
    port = listening.getHost().port
    factory = DemoClientFactory(f"ws://{HOST}:{port}/", reactor)
    factory.done.addTimeout(ANSWER_SECONDS, reactor)
    print()  # noqa: T201
    connecting: Deferred[Any] = TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
    return connecting.addCallback(lambda _: factory.done)


def _form(is_binary: bool) -> str:
    return "base64" if is_binary else "text  "
