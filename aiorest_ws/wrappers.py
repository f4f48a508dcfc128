"""`Request` and `Response`.

msgspec decodes a message straight into a `Request`, so the class is a Struct. Its fields are the
keys of the wire protocol (docs/reference/wire-protocol).
"""

import copy
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from aiorest_ws.exceptions import BaseAPIException, MalformedMessage, ValidationError

__all__ = (
    "CANCEL",
    "LOGGED_URL_LENGTH",
    "PING",
    "RESERVED_EXTRA_NAMES",
    "SUBSCRIBE",
    "TOPIC_METHODS",
    "UNSUBSCRIBE",
    "Request",
    "Response",
    "TypedRequest",
    "normalize_method",
)

LOGGED_URL_LENGTH = 200

# Methods that no view handles, as `normalize_method` returns them.
CANCEL = "cancel"
PING = "ping"
SUBSCRIBE = "subscribe"
UNSUBSCRIBE = "unsubscribe"

TOPIC_METHODS = frozenset({SUBSCRIBE, UNSUBSCRIBE})

# Only the server and its middlewares may set these on a request.
RESERVED_EXTRA_NAMES = frozenset({"connection", "factory", "token_payload", "user"})


def normalize_method(method: object) -> str:
    """Return `method` stripped and in lower case, or an empty string if it is not a string."""
    return method.strip().lower() if isinstance(method, str) else ""


class _RequestMeta(msgspec.StructMeta):
    """Let `Request(...)` accept extra keys, which a Struct rejects."""

    def __call__(
        cls,  # noqa: N805  the instance of a metaclass is a class
        /,  # a client may send a key `cls`
        method: Any = None,
        url: Any = None,
        args: Any = None,
        data: Any = None,
        event_name: Any = None,
        id: Any = None,  # noqa: A002  the key of the wire protocol
        timeout: Any = None,
        token: Any = None,
        since: Any = None,
        **extra: Any,
    ) -> Any:
        request = super().__call__(method, url, args, data, event_name, id, timeout, token, since)
        if extra:
            request.adopt(extra)
        return request


class _ServerSide:
    """Attributes that the server sets, and that no message can set.

    They are slots because an attribute that is not a field of the Struct would cost every request
    a dict. Their names start with an underscore because any other name would be reserved: messages
    with that extra key would be rejected.

    - `_connection`, `_factory`: read them as `connection` and `factory`. The server writes
      `_connection` itself, because the setter of a property takes 3 % of a call.
    - `_call_seconds`: the view's `call_seconds`; unset if the view has not been found.
    - `_is_binary`: True if the request came in a binary message; else unset.
    - `_log_id`: set on first use of `log_id`.
    - `_query_names`: the names of the arguments that are from the query of the URL, and text;
      unset if it has none.
    - `_started`: the `time.monotonic()` at which the message was decoded; set for the access log.
    - `_status`: the status of the failure that answers the request; unset for a success.
    """

    __slots__ = (
        "_call_seconds",
        "_connection",
        "_factory",
        "_is_binary",
        "_log_id",
        "_query_names",
        "_started",
        "_status",
    )


class Request(
    _ServerSide,
    msgspec.Struct,
    metaclass=_RequestMeta,
    forbid_unknown_fields=True,
    dict=True,
    eq=False,
):
    """A request from a client.

    Each extra key of the message becomes an attribute of the instance. Raises MalformedMessage for
    a key that would shadow a member, starts with `_`, or is reserved for the server. `connection`
    and `factory` are None outside a server.
    """

    method: Any = None
    url: str | None = None
    _args: dict[str, Any] | None = msgspec.field(name="args", default=None)
    data: Any = None
    event_name: Any = None
    id: str | int | None = None
    timeout: float | None = None
    token: str | None = None
    since: dict[str, Any] | None = None

    if TYPE_CHECKING:
        connection: Any = None
        factory: Any = None
        extra_names: tuple[str, ...] = ()

        def __init__(
            self,
            method: Any = None,
            url: str | None = None,
            args: dict[str, Any] | None = None,
            data: Any = None,
            event_name: Any = None,
            id: str | int | None = None,  # noqa: A002
            timeout: float | None = None,
            token: str | None = None,
            since: dict[str, Any] | None = None,
            **extra: Any,
        ) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
    else:
        extra_names = ()  # without an annotation it is not a field
        _opened = None  # what to close when the reply has been sent

        @property
        def connection(self):
            return getattr(self, "_connection", None)

        @connection.setter
        def connection(self, connection):
            self._connection = connection

        @property
        def factory(self):
            if hasattr(self, "_factory"):
                return self._factory
            return getattr(self.connection, "factory", None)

        @factory.setter
        def factory(self, factory):
            self._factory = factory

    @property
    def log_id(self) -> str:
        """The ID of this request in the server's log, created on first use."""
        if not hasattr(self, "_log_id"):
            self._log_id = secrets.token_hex(6)
        return self._log_id

    @property
    def args(self) -> dict[str, Any]:
        """The arguments for the view; empty if the message has none."""
        if self._args is None:
            self._args = {}
        return self._args

    def get_argument(self, name: str) -> Any:
        """Return an argument, or None if it is missing."""
        return self._args.get(name) if self._args else None

    def to_representation(self) -> dict[str, Any]:
        """Return the keys that the reply echoes: `event_name`, and `id` if the request has one."""
        if self.id is None:
            return {"event_name": self.event_name}
        return {"event_name": self.event_name, "id": self.id}

    def adopt(self, extra: dict[str, Any]) -> None:
        """Set each key of `extra` as an attribute; raise MalformedMessage for a reserved key."""
        for name in extra:
            if name.startswith("_") or name in _MEMBERS:
                raise MalformedMessage(
                    f"The key {name[:LOGGED_URL_LENGTH]!r} is reserved and cannot be sent.",
                    event_name=self.event_name,
                    request_id=self.id,
                )
        for name, value in extra.items():
            setattr(self, name, value)
        self.extra_names = tuple(extra)

    def __copy__(self) -> "Request":
        twin: Request = super().__copy__()  # type: ignore[misc]
        for name in ("_connection", "_factory", *vars(self)):
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Request":
        # The copy belongs to the same client, so it shares the connection and the factory.
        twin = copy.copy(self)
        for name in (*self.__struct_fields__, *self.extra_names):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        return twin

    def __repr__(self) -> str:
        # For logs: never args, data, token or extra keys.
        method = self.method if isinstance(self.method, str) else type(self.method).__name__
        # A query may contain arguments.
        path, query, _ = (
            self.url.partition("?") if isinstance(self.url, str) else (self.url, "", "")
        )
        url = ascii(f"{path}?..." if query else path)
        if len(url) > LOGGED_URL_LENGTH:
            url = f"{url[:LOGGED_URL_LENGTH]}..."
        return f"<Request {method[:20]!a} {url}>"


class TypedRequest(Request):
    """A request whose `data` is decoded already into the type that its view wants.

    Who reads `data` gets what the client has sent. It may have been changed by then, so the view
    gets what the type makes of it, unless `take` was called before.
    """

    if not TYPE_CHECKING:  # a property in place of a field

        @property
        def data(self):
            kept = vars(self)
            kept.pop("_made", None)
            if "_read" in kept:
                kept["_data"] = kept.pop("_read")()
            return kept.get("_data")

        @data.setter
        def data(self, value):
            kept = vars(self)
            kept.pop("_made", None)
            kept.pop("_read", None)
            kept["_data"] = value

    def keep(self, made: object, read: Callable[[], Any]) -> None:
        """Keep what the type has made of `data`, which `read` returns."""
        vars(self).update(_made=made, _read=read)

    def take(self, missing: object) -> Any:
        """Return what the type has made of `data`; `missing` if that has been read, or set."""
        return vars(self).pop("_made", missing)


_MEMBERS = RESERVED_EXTRA_NAMES.union(dir(Request))


def converter_of(request: Any) -> Any:
    """Return the `encoder` of the server that has got a request; None if it has none."""
    return getattr(getattr(request, "factory", None), "encoder", None)


class Response:
    """A reply before it is rendered, for middlewares.

    `status` is None for a success.
    """

    __slots__ = ("_content", "status")

    def __init__(self) -> None:
        self._content: dict[str, Any] = {}
        self.status: int | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The reply as a dict: `data` or `detail`, and the keys added by `append_request`."""
        return self._content

    @content.setter
    def content(self, value: object) -> None:
        for name in ("detail", "errors"):
            self._content.pop(name, None)
        self.status = None
        self._content["data"] = value

    def wrap_exception(self, exc: BaseAPIException) -> None:
        """Turn the response into the failure for `exc`."""
        self._content = {"detail": exc.detail}
        if isinstance(exc, ValidationError) and exc.errors:
            self._content["errors"] = exc.errors
        declared = getattr(exc, "declared_as", None)
        if declared is not None:
            self._content["error"] = declared.__name__
            self._content["info"] = {name: getattr(exc, name) for name in declared.field_names}
        self.status = exc.status

    def append_request(self, request: Request) -> None:
        """Add the keys that the reply echoes from `request`."""
        self._content.update(request.to_representation())

    def to_representation(self) -> dict[str, Any]:
        """Return the reply with its keys in the order of the wire protocol."""
        rest = dict(self._content)
        ordered: dict[str, Any] = {
            name: rest.pop(name) for name in ("data", "detail") if name in rest
        }
        if self.status is not None:
            ordered["status"] = self.status
        ordered.update((name, rest.pop(name)) for name in ("event_name", "id") if name in rest)
        ordered.update(rest)
        return ordered
