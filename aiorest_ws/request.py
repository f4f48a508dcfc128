"""One protocol per client, one factory for all: Autobahn's WebSocket protocol, answering calls."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from aiorest_ws._compact import CompactFactory, ConnectionState
from aiorest_ws._fast_path import FastPathProtocol
from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.awaiting import Ready, drive, is_awaitable
from aiorest_ws.blocking import BlockingPool
from aiorest_ws.codecs import (
    decode_message,
    encode_failure,
    encode_internal_error,
    encode_message,
)
from aiorest_ws.exceptions import (
    BaseAPIException,
    MalformedMessage,
    SerializerError,
)
from aiorest_ws.log import logger
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.status import WS_SERVICE_RESTART, WS_UNEXPECTED_CONDITION
from aiorest_ws.transports import install_reactor
from aiorest_ws.wrappers import Request

__all__ = (
    "CloseReason",
    "ConnectionHook",
    "ConnectionState",
    "RequestHandlerFactory",
    "RequestHandlerProtocol",
)


ConnectionHook = Callable[[Any], Any]

_AUTOBAHN_OPTIONS = ("url", "protocols", "server", "headers", "externalPort", "reactor")
_OWN_OPTIONS = ("router", "blocking_threads")

BLOCKING_THREADS = 20
CLOSE_HANDSHAKE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ended: what Autobahn passes to `onClose`.

    `code` is None when the TCP connection was lost without a closing handshake.
    """

    was_clean: bool
    code: int | None
    reason: str | None


class RequestHandlerProtocol(FastPathProtocol):
    """One client's connection: a request in, its reply out in the same form."""

    close_reason: CloseReason | None = None

    # None: no call has been made, or no hook is running. A connection that idles has neither.
    _calls: dict[Any, str | int | None] | None = None
    _held_messages: list[tuple[bytes, bool]] | None = None
    _is_greeted = False

    # Whether a subclass has changed how a message becomes a request.
    _has_own_requests: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ours = RequestHandlerProtocol._decode_message
        cls._has_own_requests = cls._decode_message is not ours

    if TYPE_CHECKING:  # Autobahn does not say

        def sendClose(self, code: int | None = None, reason: str | None = None) -> None: ...

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer one message. Every fault in it becomes a failure; the connection stays."""
        request: Request | None = None
        try:
            if self._has_own_requests:
                request = self._decode_message(payload, isBinary)
                request.connection, request.factory = self, self.factory
            else:
                request = decode_message(payload, isBinary)
                request._connection = self  # its factory is the request's
            if self._calls and request.id is not None and request.id in self._calls.values():
                raise MalformedMessage("`id` belongs to a call that is still running.")
            answer = self.factory.router.process_request(request)
        except BaseAPIException as exc:
            answer = self._refusal(request, exc)
        except Exception:  # noqa: BLE001  an override may raise anything
            answer = self._internal_error(request)
        if type(answer) is Ready:
            answer = bytes(answer)
        if type(answer) is bytes and not isBinary and len(answer) <= self._reply_limit:
            self._send_ordinary(answer, False)
        elif isinstance(answer, bytes) or not is_awaitable(answer):
            self._reply(request, answer, isBinary)
        else:
            self._reply_later(request, answer, isBinary)

    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        """Return the request in a message; raise MalformedMessage if there is none."""
        return decode_message(payload, isBinary)

    def _encode_message(self, response: bytes, isBinary: bool = False) -> bytes:
        """Return a reply in the form of its request."""
        return encode_message(response, isBinary) if isBinary else response

    def _reply_later(self, request: Request | None, answer: Any, isBinary: bool) -> None:
        try:
            pending = answer if isinstance(answer, Deferred) else drive(_awaited(answer))
        except Exception as exc:  # noqa: BLE001  a router of somebody else's may raise anything
            pending = self._internal_error(request, exc)
        if not isinstance(pending, Deferred):
            self._reply(request, pending, isBinary)
            return
        if self._calls is None:
            self._calls = {}
        self._calls[pending] = request.id if request is not None else None

        def answered(reply: Any) -> None:
            if self._calls is None:
                return  # nobody is there any more
            del self._calls[pending]
            if isinstance(reply, Failure):
                reply = self._internal_error(request, reply.value)
            self._reply(request, reply, isBinary)

        pending.addBoth(answered)

    def _reply(self, request: Request | None, reply: Any, isBinary: bool) -> None:
        if self._send_limit < 0 and self._state != self.STATE_OPEN:
            return
        try:
            payload = self._encode_message(reply, isBinary)
            if type(payload) is not bytes:
                # Autobahn takes no subclass, and bytes(42) would be 42 zeros.
                payload = bytes(memoryview(payload))
        except Exception:  # noqa: BLE001  an override may raise anything
            payload = encode_message(self._internal_error(request), isBinary)
        self.sendMessage(payload, isBinary)

    def _refusal(self, request: Request | None, exc: BaseAPIException) -> bytes:
        logger.info("%r refused: %s %s", request, type(exc).__name__, exc.status)
        try:
            return encode_failure(exc, request)
        except SerializerError as unrenderable:
            return self._internal_error(request, unrenderable)

    def _internal_error(self, request: Request | None, exc: BaseException | None = None) -> bytes:
        logger.error("%r failed", request, exc_info=exc or True)
        return encode_internal_error(request)

    # The underscored callbacks are what Autobahn calls; the public ones stay free for subclasses,
    # which need not call super().

    def _onOpen(self) -> None:
        if self.factory.is_stopping:
            # Its handshake was under way when the service began to stop.
            self.sendCloseFrame(WS_SERVICE_RESTART, None, isReply=False)
            return
        self.factory.connections.add(self)
        self.onOpen()
        hooks = self.factory.connect_hooks
        if not hooks:
            self._is_greeted = True
            return
        self._held_messages = []
        self._choose_ways()
        greeting = drive(self._greet(hooks))
        if isinstance(greeting, Deferred):
            # At most what is read already waits in _held_messages.
            self.transport.pauseProducing()
            self._calls = {greeting: None}
            greeting.addBoth(self._go_on)
        else:
            self._go_on(None)

    async def _greet(self, hooks: list[ConnectionHook]) -> None:
        try:
            for hook in hooks:
                done = hook(self)
                if is_awaitable(done):
                    await done
            self._is_greeted = True
        except Exception as exc:  # noqa: BLE001  a hook may raise anything
            _log_hook_failure("on_connect", exc)

    def _go_on(self, _: Any) -> None:
        if self._calls is not None:
            self._calls = None
        held, self._held_messages = self._held_messages or [], None
        if self.state != self.STATE_CLOSED:
            self.transport.resumeProducing()  # a close frame of the client is to be read, too
        if self.state != self.STATE_OPEN:
            return
        if not self._is_greeted:
            self.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)
            return
        self._choose_ways()
        for message in held:
            self._onMessage(*message)

    def _may_receive(self) -> bool:
        return self._held_messages is None and super()._may_receive()

    def _resume_reading(self) -> None:
        if self._held_messages is None:
            super()._resume_reading()

    def _onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._held_messages is not None:
            self._messages_left -= 1
            self._held_messages.append((payload, isBinary))
        else:
            super()._onMessage(payload, isBinary)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.close_reason = CloseReason(wasClean, code, reason)
        calls, self._calls = self._calls, None
        for pending in calls or ():
            pending.cancel()
        try:
            super()._onClose(wasClean, code, reason)
        finally:
            if self._is_greeted:
                self._is_greeted = False
                for hook in self.factory.disconnect_hooks:
                    parting = drive(_called(hook, self))
                    if isinstance(parting, Deferred):
                        self.factory.keep(parting)
            self.factory.forget(self)


async def _awaited(answer: Any) -> Any:
    return await answer


async def _called(hook: ConnectionHook, connection: RequestHandlerProtocol) -> None:
    try:
        done = hook(connection)
        if is_awaitable(done):
            await done
    except Exception as exc:  # noqa: BLE001  the other hooks run all the same
        _log_hook_failure("on_disconnect", exc)


def _log_hook_failure(name: str, exc: BaseException | None) -> None:
    logger.error("an %s hook failed", name, exc_info=exc or True)


class RequestHandlerFactory(CompactFactory):
    """Make a protocol for each client, and hold what all of them share.

    Besides Autobahn's own arguments (`url`, `protocols`, `server`, `headers`, `externalPort`,
    `reactor`) it takes `router` and `blocking_threads`. A subclass may pass keywords of its own
    through; this class itself raises TypeError for unknown ones. Without `reactor` the asyncio
    reactor is installed if there is none yet.
    """

    protocol = RequestHandlerProtocol

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        router = kwargs.pop("router", None)
        threads = kwargs.pop("blocking_threads", BLOCKING_THREADS)
        known = {name: kwargs.pop(name) for name in _AUTOBAHN_OPTIONS if name in kwargs}
        if kwargs and type(self) is RequestHandlerFactory:
            raise TypeError(
                unknown_option(next(iter(kwargs)), (*_AUTOBAHN_OPTIONS, *_OWN_OPTIONS))
            )
        if known.get("reactor") is None:
            known["reactor"] = install_reactor()
        super().__init__(*args, **known)
        # A protocol error is answered with its close code; Autobahn's default drops the client.
        self.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=CLOSE_HANDSHAKE_SECONDS)  # type: ignore[no-untyped-call]
        self.is_stopping = False
        self.connections: set[RequestHandlerProtocol] = set()
        self.connect_hooks: list[ConnectionHook] = []
        self.disconnect_hooks: list[ConnectionHook] = []
        self._router: AbstractRouter = SimpleRouter()
        self._blocking_pool = BlockingPool(self.reactor, threads)
        self._kept: set[Deferred[Any]] = set()
        self._waiting_for_last: list[Deferred[None]] = []
        if router is not None:
            self.router = router

    @property
    def router(self) -> AbstractRouter:
        """The router of every connection."""
        return self._router

    @router.setter
    def router(self, router: AbstractRouter) -> None:
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"router must be an AbstractRouter, not {router!r}")
        self._router = router

    def run_blocking(self, call: Callable[[], Any]) -> Deferred[Any]:
        """Run `call` in the thread pool; raise ServiceUnavailable when too many wait already."""
        return self._blocking_pool.run(call)

    def forget(self, connection: RequestHandlerProtocol) -> None:
        """Note that a connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            waiting, self._waiting_for_last = self._waiting_for_last, []
            for last_closed in waiting:
                last_closed.callback(None)

    def last_closed(self) -> Deferred[None]:
        """Return a Deferred that fires when there is no connection left."""
        last_closed: Deferred[None] = Deferred()
        if self.connections:
            self._waiting_for_last.append(last_closed)
        else:
            last_closed.callback(None)
        return last_closed

    def keep(self, pending: Deferred[Any]) -> None:
        """Hold on to what runs on its own until it is done: asyncio itself would not."""
        self._kept.add(pending)
        pending.addBoth(lambda _: self._kept.discard(pending))

    def hooks_done(self) -> Deferred[Any]:
        """Return a Deferred that fires when the disconnect hooks that still run are done."""
        return DeferredList(list(self._kept))

    def stopFactory(self) -> None:
        """Let the thread pool go; a thread that is still busy ends with the process."""
        super().stopFactory()  # type: ignore[no-untyped-call]
        self._blocking_pool.stop()


def unknown_option(name: str, known: Iterable[str]) -> str:
    """Return the words for an option that does not exist, with the nearest that does."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown option {name!r}{hint}"
