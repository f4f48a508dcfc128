"""One protocol per client, one factory for all: Autobahn's WebSocket protocol, answering calls."""

import difflib
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import Deferred, DeferredList

from aiorest_ws.abstract import AbstractRouter
from aiorest_ws.awaiting import Ready, drive, is_awaitable
from aiorest_ws.codecs import (
    decode_message,
    encode_failure,
    encode_internal_error,
    encode_message,
)
from aiorest_ws.connection.access_log import with_access_log
from aiorest_ws.connection.autobahn import CompactProtocol, ConnectionState
from aiorest_ws.connection.calls import CallingProtocol, is_cancel, may_end_something
from aiorest_ws.connection.flow import UnsentBudget
from aiorest_ws.connection.pushing import PushingFactory, PushingProtocol
from aiorest_ws.dispatch.blocking import BlockingPool
from aiorest_ws.dispatch.failures import log_failure
from aiorest_ws.dispatch.user_rate import UserRateMiddleware
from aiorest_ws.exceptions import (
    BaseAPIException,
    ReplyTooLarge,
    SerializerError,
    TooManyMessages,
)
from aiorest_ws.log import logger
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.status import (
    WS_MESSAGE_VIOLATE_POLICY,
    WS_SERVICE_RESTART,
    WS_UNEXPECTED_CONDITION,
)
from aiorest_ws.topics.urls import MEMORY
from aiorest_ws.transports.reactor import install_reactor
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
_OWN_OPTIONS = (
    *("router", "limits", "blocking_threads", "access_log"),
    *("topics", "presence_info"),
)

BLOCKING_THREADS = 20

# How often the bytes are added up that very many clients have not read.
AUDIT_SECONDS = 1


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ended: what Autobahn passes to `onClose`.

    `code` is None when the TCP connection was lost without a closing handshake.
    """

    was_clean: bool
    code: int | None
    reason: str | None


class RequestHandlerProtocol(PushingProtocol):
    """One client's connection: a request in, its reply out in the same form."""

    close_reason: CloseReason | None = None

    _greeting: Deferred[Any] | None = None
    _is_greeted = False

    # Whether a subclass, of this or of the factory, has changed how a message becomes a request
    # or where its router is.
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
                router = self.factory.router
            else:
                request = decode_message(payload, isBinary)
                request.connection = self  # its factory is the request's
                router = self.factory._router
            if isBinary:
                self._speaks_binary = request._is_binary = True
            if request.url is None and is_cancel(request):
                self.cancel_call(request)
                return
            if self._calls is not None or self._takes_no_calls:
                self._check_room_for(request)
            answer = router.process_request(request)
        except BaseAPIException as exc:
            answer = self._refusal(request, exc)
        except Exception:  # noqa: BLE001  an override may raise anything
            answer = self._internal_error(request)
        kind = type(answer)
        is_plain = kind is bytes or (kind is Ready and self._unbegun is None)
        if is_plain and not isBinary and len(answer) <= self._reply_limit:
            self._send_ordinary(answer, False)
        elif isinstance(answer, bytes) or not is_awaitable(answer):
            self._answer(request, bytes(answer) if kind is Ready else answer, isBinary)
        else:
            self._reply_later(request, answer, isBinary)

    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        """Return the request in a message; raise MalformedMessage if there is none."""
        return decode_message(payload, isBinary)

    def _encode_message(self, response: bytes, isBinary: bool = False) -> bytes:
        """Return a reply in the form of its request."""
        return encode_message(response, isBinary) if isBinary else response

    def _reply(self, request: Request | None, reply: Any, isBinary: bool) -> Any:
        """Send a reply; return what was sent, before it was encoded."""
        if self._send_limit < 0 and self._state != self.STATE_OPEN:
            return None
        try:
            payload = self._encode_message(reply, isBinary)
            if type(payload) is not bytes:
                # Autobahn takes no subclass, and bytes(42) would be 42 zeros.
                payload = bytes(memoryview(payload))
        except Exception:  # noqa: BLE001  an override may raise anything
            self._undo(request)
            reply = self._internal_error(request)
            payload = encode_message(reply, isBinary)
        if 0 < self.maxMessagePayloadSize < len(payload):
            self.factory.limit_hits.note("message_bytes", self.peer, f"413: {len(payload)} bytes")
            self._undo(request)
            reply = self._failure(request, ReplyTooLarge())
            payload = encode_message(reply, isBinary)
        self.sendMessage(payload, isBinary)
        if self._unbegun is not None and request is not None:
            self.begin_subscription(request)
        return reply

    _send_reply = _reply  # for what is not noted

    def _undo(self, request: Request | None) -> None:
        if self._unbegun is not None and request is not None:
            self.undo_subscription(request)

    def _refusal(self, request: Request | None, exc: BaseAPIException) -> bytes:
        logger.debug("%r refused: %s %s", request, type(exc).__name__, exc.status)
        return self._failure(request, exc)

    def _failure(self, request: Request | None, exc: BaseAPIException) -> bytes:
        try:
            return encode_failure(exc, request)
        except SerializerError as unrenderable:
            return self._internal_error(request, unrenderable)

    def _internal_error(self, request: Request | None, exc: BaseException | None = None) -> bytes:
        log_failure(request, exc or sys.exception())
        return encode_internal_error(request)

    def _is_urgent(self, payload: bytes, isBinary: bool) -> bool:
        if not may_end_something(payload, isBinary):
            return False
        try:
            request = self._decode_message(payload, isBinary)
        except Exception:  # noqa: BLE001  it will be judged when its turn comes
            return False
        return self._ends_something(request)

    def _refuse_rate(self, payload: bytes, isBinary: bool) -> None:
        request: Request | None = None
        with suppress(Exception):  # whatever it is, it is one too many
            request = self._decode_message(payload, isBinary)
        self._reply(request, self._failure(request, TooManyMessages()), isBinary)
        super()._refuse_rate(payload, isBinary)

    # The underscored callbacks are what Autobahn calls; the public ones stay free for subclasses,
    # which need not call super().

    def _onOpen(self) -> None:
        if self.factory.is_stopping:
            # Its handshake was under way when the service began to stop.
            self.sendCloseFrame(WS_SERVICE_RESTART, None, isReply=False)
            return
        self.factory.add(self)
        self.onOpen()
        hooks = self.factory.connect_hooks
        if not hooks:
            self._is_greeted = True
            return
        self._begin_holding()
        greeting = drive(self._greet(hooks))
        if isinstance(greeting, Deferred):
            self._greeting = greeting
            greeting.addBoth(self._greeted)
        else:
            self._greeted(None)

    async def _greet(self, hooks: list[ConnectionHook]) -> None:
        try:
            for hook in hooks:
                done = hook(self)
                if is_awaitable(done):
                    await done
            self._is_greeted = True
        except Exception as exc:  # noqa: BLE001  a hook may raise anything
            _log_hook_failure("on_connect", exc)

    def _greeted(self, _: Any) -> None:
        self._greeting = None
        if self._is_greeted:
            self._end_holding()
        elif self.state == self.STATE_OPEN:
            self.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)

    def _onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._abort_reason is not None:
            code, reason = WS_MESSAGE_VIOLATE_POLICY, self._abort_reason
        self.close_reason = CloseReason(wasClean, code, reason)
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            greeting.cancel()
        self._end_calls()
        self._end_subscriptions()
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


async def _called(hook: ConnectionHook, connection: RequestHandlerProtocol) -> None:
    try:
        done = hook(connection)
        if is_awaitable(done):
            await done
    except Exception as exc:  # noqa: BLE001  the other hooks run all the same
        _log_hook_failure("on_disconnect", exc)


def _log_hook_failure(name: str, exc: BaseException | None) -> None:
    logger.error("an %s hook failed", name, exc_info=exc or True)


class RequestHandlerFactory(PushingFactory):
    """Make a protocol for each client, and hold what all of them share.

    Besides Autobahn's own arguments (`url`, `protocols`, `server`, `headers`, `externalPort`,
    `reactor`) it takes `router`, `limits`, `blocking_threads`, `access_log`, `topics` (where they
    are kept: `memory`, or the URL of a Redis server) and `presence_info`. A subclass may pass
    keywords of its own through; this class itself raises TypeError for unknown ones. Without
    `reactor` the asyncio reactor is installed if there is none yet.
    """

    protocol = RequestHandlerProtocol

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        router = kwargs.pop("router", None)
        threads = kwargs.pop("blocking_threads", BLOCKING_THREADS)
        limits = kwargs.pop("limits", None)
        self.access_log = bool(kwargs.pop("access_log", False))
        topics = kwargs.pop("topics", MEMORY)
        self._presence_info = kwargs.pop("presence_info", None)
        known = {name: kwargs.pop(name) for name in _AUTOBAHN_OPTIONS if name in kwargs}
        if kwargs and type(self) is RequestHandlerFactory:
            raise TypeError(
                unknown_option(next(iter(kwargs)), (*_AUTOBAHN_OPTIONS, *_OWN_OPTIONS))
            )
        if known.get("reactor") is None:
            known["reactor"] = install_reactor()
        super().__init__(*args, limits=limits, **known)
        self._equip_with_topics(topics)
        self.unsent = UnsentBudget(self.limits.unsent_bytes_in_all)
        self.connections: set[RequestHandlerProtocol] = set()
        self.connect_hooks: list[ConnectionHook] = []
        self.disconnect_hooks: list[ConnectionHook] = []
        self._is_auditing = False
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
        per_second = self.limits.messages_per_second_per_user
        own = router.middlewares
        if per_second is not None and not any(isinstance(one, UserRateMiddleware) for one in own):
            # Others that are added go before a router's own: who calls is known by then.
            own.append(UserRateMiddleware(per_second, self.reactor))

    def run_blocking(self, call: Callable[[], Any]) -> Deferred[Any]:
        """Run `call` in the thread pool; raise ServiceUnavailable when too many wait already."""
        return self._blocking_pool.run(call)

    def add(self, connection: RequestHandlerProtocol) -> None:
        """Note that a connection is open."""
        self.connections.add(connection)
        if not self._is_auditing and self._may_exceed_budget():
            self._is_auditing = True
            self._batched_timer.call_later(AUDIT_SECONDS, self._audit)

    def _may_exceed_budget(self) -> bool:
        # With less than the mark each, which nobody tells of, so many cannot be over the limit.
        limits = self.limits
        return len(self.connections) * limits.unsent_pause_bytes > limits.unsent_bytes_in_all

    def _audit(self) -> None:
        self._is_auditing = self._may_exceed_budget()
        if self._is_auditing:
            self.unsent.audit(self.connections)
            self._batched_timer.call_later(AUDIT_SECONDS, self._audit)

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

    def _configure(self, kind: type[CompactProtocol], options: tuple[Any, ...]) -> type:
        if self.access_log and issubclass(kind, CallingProtocol):
            kind = with_access_log(kind)
        configured = super()._configure(kind, options)
        if type(self).router is not RequestHandlerFactory.router:
            configured._has_own_requests = True  # type: ignore[attr-defined]
        return configured

    def stopFactory(self) -> None:
        """Let the thread pool go; a thread that is still busy ends with the process."""
        super().stopFactory()  # type: ignore[no-untyped-call]
        self._blocking_pool.stop()


def unknown_option(name: str, known: Iterable[str]) -> str:
    """Return the words for an option that does not exist, with the nearest that does."""
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown option {name!r}{hint}"
