"""One protocol per client, one factory for all: Autobahn's WebSocket protocol, answering calls."""

import time
from contextlib import suppress
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from aiorest_ws.awaiting import Ready, drive, is_awaitable, maybe_await
from aiorest_ws.codecs import decode_message, encode_json, encode_message
from aiorest_ws.connection import (
    DONE,
    DRAINING,
    OPTIONS,
    AccessLog,
    CloseReason,
    Closing,
    ConnectionHook,
    ConnectionState,
    FlowProtocol,
    RoutingFactory,
    check_accepted,
    close_dependencies,
    encode_reply,
    is_urgent,
    run_connect_hooks,
    run_disconnect_hooks,
    too_large_reply,
    unknown_option,
)
from aiorest_ws.dispatch.failures import internal_error_reply, render_failure
from aiorest_ws.dispatch.streams import Stream, discard
from aiorest_ws.exceptions import BaseAPIException, MalformedMessage, TooManyMessages
from aiorest_ws.log import logger
from aiorest_ws.status import (
    WS_MESSAGE_VIOLATE_POLICY,
    WS_NORMAL,
    WS_SERVICE_RESTART,
    WS_UNEXPECTED_CONDITION,
)
from aiorest_ws.topics.broker import Position
from aiorest_ws.topics.subscriptions import Subscriptions
from aiorest_ws.wrappers import CANCEL, PING, Request, normalize_method

__all__ = (
    "CloseReason",
    "ConnectionHook",
    "ConnectionState",
    "RequestHandlerFactory",
    "RequestHandlerProtocol",
)


class RequestHandlerProtocol(FlowProtocol):
    """One client's connection. Each message is a request; its reply is sent in the same form.

    Calls that take time and subscriptions are objects of their own, made on first use.
    """

    close_reason: CloseReason | None = None

    _subscriptions: Subscriptions | None = None
    _closing: Closing | None = None

    # The client has sent a binary message, so it can read one.
    _speaks_binary = False

    _greeting: Deferred[Any] | None = None
    _is_greeted = False

    # Whether a subclass overrides `_decode_message`, or `router`, or there is an access log.
    _has_own_requests: ClassVar[bool] = False
    _access_log: ClassVar[AccessLog | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ours = RequestHandlerProtocol._decode_message
        cls._has_own_requests = cls._decode_message is not ours

    @classmethod
    def configure_for_factory(cls, *, access_log: AccessLog | None, has_own_router: bool) -> None:
        """Adapt a class that a factory has made for its connections."""
        cls._access_log = access_log
        if access_log is not None or has_own_router:
            cls._has_own_requests = True
        if access_log is not None:
            cls._has_own_replies = True  # each reply passes what notes it

    # From a message to its reply

    def onMessage(self, payload: bytes, isBinary: bool) -> Any:
        """Answer one message, with a failure for every fault; `await` waits for the answer."""
        request: Request | None = None
        try:
            if self._has_own_requests:
                request = self._decode_own(payload, isBinary)
                router = self.factory.router
            else:
                router = self.factory.current_router
                decode = decode_message if len(payload) <= router.plain_bytes else router.decode
                request = decode(payload, isBinary)
                request._connection = self  # its factory is the request's
            if isBinary:
                self._speaks_binary = request._is_binary = True
            calls = self._calls
            if request.url is None and normalize_method(request.method) in (CANCEL, PING):
                self._answer_own(request, isBinary)
                return DONE
            if self._flow or (calls is not None and calls.by_id):
                self._check_room_for(request)
            answer = router.process_request(request)
        except BaseAPIException as exc:
            logger.debug("%r refused: %s %s", request, type(exc).__name__, exc.status)
            return self._fail(request, render_failure(request, exc), isBinary, exc.status)
        except BaseException as exc:  # noqa: BLE001  an override may raise anything
            return self._fail(request, internal_error_reply(request, exc), isBinary, 500)
        kind = type(answer)
        subscriptions = self._subscriptions
        is_plain = kind is bytes or (
            kind is Ready
            and (subscriptions is None or not subscriptions.unanswered)
            and getattr(request, "_opened", None) is None
        )
        if is_plain and not isBinary and len(answer) <= self._reply_limit:
            self._send_ordinary(answer, False)
        elif isinstance(answer, bytes) or not is_awaitable(answer):
            self.answer_call(request, bytes(answer) if kind is Ready else answer, isBinary, None)
        else:
            return self._wait_for(request, answer, isBinary)
        return DONE

    def _wait_for(self, request: Request | None, answer: Any, is_binary: bool) -> Any:
        try:
            pending = answer if isinstance(answer, Deferred) else drive(maybe_await(answer))
        except BaseException as exc:  # noqa: BLE001  a router of somebody else's may raise any
            return self._fail(request, internal_error_reply(request, exc), is_binary, 500)
        if isinstance(pending, Deferred):
            return self._all_calls().wait_for(request, pending, is_binary)
        self.answer_call(request, pending, is_binary, None)
        return DONE

    def _decode_own(self, payload: bytes, isBinary: bool) -> Request:
        started = time.monotonic()
        request = self._decode_message(payload, isBinary)
        request.connection, request.factory = self, self.factory
        if self._access_log is not None:
            request._started = started
        return request

    def _decode_message(self, payload: bytes, isBinary: bool = False) -> Request:
        """Return the request in a message; raise MalformedMessage if there is none."""
        return (self.factory.router.decode if self.factory else decode_message)(payload, isBinary)

    def _encode_message(self, response: bytes, isBinary: bool = False) -> bytes:
        """Return a reply in the form of its request."""
        return encode_message(response, isBinary) if isBinary else response

    def _check_room_for(self, request: Request) -> None:
        if self._flow & DRAINING:
            check_accepted(self._closing)
        if self._calls is not None:
            self._calls.check_id(request)

    def _answer_own(self, request: Request, is_binary: bool) -> None:
        if normalize_method(request.method) == PING:
            reply = encode_json({"data": None, **request.to_representation()})
            self.send_call_reply(request, reply, is_binary)
        else:
            self.cancel_call(request)

    def cancel_call(self, request: Request) -> None:
        """End the call that a CANCEL names; one that is not running has been answered."""
        if request.id is None:
            raise MalformedMessage("`id` is missing: CANCEL ends the call that has it.")
        if self._calls is not None:
            self._calls.cancel(request.id)

    def answer_call(
        self, request: Request | None, reply: Any, is_binary: bool, seconds_left: float | None
    ) -> None:
        """Send a reply, or start a stream, which has `seconds_left` of the time of its call."""
        if not isinstance(reply, Stream):
            self._reply(request, reply, is_binary)
        elif self._state != self.STATE_OPEN:
            discard(reply)
        else:
            self._all_calls().send_stream(request, reply, is_binary, seconds_left)

    def _fail(self, request: Request | None, reply: bytes, is_binary: bool, status: int) -> Any:
        if request is not None:
            self.call_ended(request)
        self._reply(request, reply, is_binary, status)
        return DONE

    def _reply(
        self, request: Request | None, reply: Any, is_binary: bool, status: int | None = None
    ) -> None:
        sent = self.send_call_reply(request, reply, is_binary)
        if isinstance(sent, bytes):
            # Another failure may have been sent in its place.
            self.log_call_reply(request, len(sent), status if sent is reply else None)
        close_dependencies(self, request)

    def log_call_reply(
        self, request: Request | None, size: int, status: int | None = None
    ) -> None:
        """Log that a request was answered with `size` bytes."""
        if self._access_log is not None:
            self._access_log.note(self.peer, request, size, status)

    def send_call_reply(self, request: Request | None, reply: Any, is_binary: bool) -> Any:
        """Send a reply; return what was sent, before it was encoded, or None: it is closed."""
        if self._send_limit < 0 and self._state != self.STATE_OPEN:
            return None
        payload, sent = encode_reply(self._encode_message, request, reply, is_binary)
        if 0 < self.maxMessagePayloadSize < len(payload):
            payload, sent = too_large_reply(self, request, reply, is_binary, len(payload))
        if sent is not reply and request is not None:
            self.call_ended(request)
        if sent is None:
            return None
        self.sendMessage(payload, is_binary)
        if self._subscriptions is not None and request is not None:
            self._subscriptions.start(request)
        return sent

    # What waits

    def call_ended(self, request: Request) -> None:
        """Forget the subscription of a SUBSCRIBE that has not been answered with success."""
        if self._subscriptions is not None:
            self._subscriptions.discard(request)

    def resume_calls(self) -> None:
        """Handle messages that have waited for a call to end."""
        if self._greeting is None:
            self.stop_queueing()

    def _is_urgent(self, payload: bytes, is_binary: bool) -> bool:
        return is_urgent(self._decode_message, self._subscriptions, payload, is_binary)

    def _refuse_rate(self, payload: bytes, is_binary: bool) -> None:
        request: Request | None = None
        with suppress(Exception):  # it is refused whatever it is
            request = self._decode_own(payload, is_binary)
        reply = render_failure(request, TooManyMessages())
        self._fail(request, reply, is_binary, TooManyMessages.status)
        self._close_over_rate()

    # Topics

    @property
    def topic_subscriptions(self) -> Subscriptions:
        """The subscriptions of this connection, with their pushes."""
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self)
        return self._subscriptions

    def forget_subscriptions(self) -> None:
        """Free the memory of subscriptions: there are none."""
        self._subscriptions = None

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The topics that this connection subscribes to."""
        return () if self._subscriptions is None else self._subscriptions.names

    async def subscribe(
        self,
        topic: str,
        since: Position | dict[str, Any] | None = None,
        *,
        request: Request | None = None,
        event_name: Any = None,
        binary: bool | None = None,
    ) -> dict[str, Any]:
        """Subscribe the client to a topic; return `topic`, `epoch` and `offset`.

        What was missed after `since` is sent first. Permissions are not checked.
        Pushes have the `event_name` given, or that of `request`; they are binary if `binary` says
        so, by default if the client sends binary messages itself. With `request` the application's
        `presence_info` is asked what others may know of this client.

        Raises NotSpecifiedTopic (404), TooManySubscriptions (429), TopicsUnavailable (503).
        """
        if event_name is None and request is not None:
            event_name = request.event_name
        is_binary = self._speaks_binary if binary is None else binary
        subscription, told = await self.topic_subscriptions.subscribe(
            topic, since, request, {"event_name": event_name}, is_binary
        )
        self.factory.topics.start_pushes(subscription)
        return told

    def unsubscribe(self, topic: str) -> None:
        """End the subscription to a topic."""
        if self._subscriptions is not None:
            self._subscriptions.unsubscribe(topic)

    def resumeProducing(self) -> None:
        """Continue: the client has read what it was sent."""
        super().resumeProducing()
        if self._subscriptions is not None:
            self._subscriptions.send_queued()

    def close(self, code: int = WS_NORMAL, reason: str | None = None) -> Deferred[None]:
        """Refuse new calls, answer those that run, and start the closing handshake.

        Calls that run for longer than `Limits.drain_seconds` are answered with 503. The Deferred
        fires when the close frame is written; in a call of this connection, whose reply precedes
        that, when the other calls are answered. On another reactor than asyncio's, or if its view
        is no coroutine, such a call must not have waited before. Raises ValueError.
        """
        self._closing = self._closing or Closing(self, code, reason)
        return self._closing.done()

    # The life of a connection. Subclasses' `onOpen` and `onClose` need not call super().

    def _opened(self) -> None:
        if self.factory.is_stopping:
            # Its handshake was under way when the service began to stop.
            self.finish(WS_SERVICE_RESTART, self.factory.limits.restart_reason)
            return
        self.factory.add(self)
        super()._opened()
        if not self.factory.connect_hooks:
            self._is_greeted = True
            return
        self.start_queueing()
        greeting = run_connect_hooks(self.factory.connect_hooks, self)
        if isinstance(greeting, Deferred):
            self._greeting = greeting
            greeting.addBoth(self._greeted)
        else:
            self._greeted(greeting)

    def _greeted(self, is_greeted: Any) -> None:
        self._greeting = None
        self._is_greeted = is_greeted is True
        if self._is_greeted:
            self.stop_queueing()
        elif self.state == self.STATE_OPEN:
            self.sendCloseFrame(WS_UNEXPECTED_CONDITION, None, isReply=False)

    def _closed(self, was_clean: bool, code: int | None, reason: str | None) -> None:
        if self._abort_reason is not None:
            code, reason = WS_MESSAGE_VIOLATE_POLICY, self._abort_reason
        self.close_reason = CloseReason(was_clean, code, reason)
        if self._greeting is not None:
            self._greeting.cancel()
        for owned in (self._calls, self._subscriptions):
            if owned is not None:
                owned.close()
        try:
            super()._closed(was_clean, code, reason)
        except BaseException as exc:  # noqa: BLE001  `onClose` may raise anything
            logger.error("onClose failed", exc_info=exc)
        finally:
            if self._is_greeted:
                self._is_greeted = False
                for running in run_disconnect_hooks(self.factory.disconnect_hooks, self):
                    self.factory.keep(running)
            self.factory.forget(self)


class RequestHandlerFactory(RoutingFactory):
    """Make a protocol for each client, and hold what all of them share.

    Besides Autobahn's own arguments (`url`, `protocols`, `server`, `headers`, `externalPort`,
    `reactor`) it takes `router`, `limits`, `blocking_threads`, `access_log`, `topics` (where they
    are kept: `memory`, or the URL of a Redis server), `presence_info` and `encoder` (see
    Application). A subclass may pass keywords of its own through; this class itself raises
    TypeError for unknown ones. Without `reactor` the asyncio reactor is installed.
    """

    protocol = RequestHandlerProtocol

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.access_log = bool(kwargs.pop("access_log", False))
        known = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        if kwargs and type(self) is RequestHandlerFactory:
            raise TypeError(unknown_option(next(iter(kwargs))))
        self.connect_hooks: list[ConnectionHook] = []
        self.disconnect_hooks: list[ConnectionHook] = []
        super().__init__(*args, **known)

    def _configure(self, kind: type[Any], options: tuple[Any, ...]) -> type:
        configured = super()._configure(kind, options)
        if issubclass(configured, RequestHandlerProtocol):
            configured.configure_for_factory(
                access_log=AccessLog() if self.access_log else None,
                has_own_router=type(self).router is not RequestHandlerFactory.router,
            )
        return configured
