"""What a view gets and what it gives: `Request` and `Response`.

msgspec decodes a message straight into a `Request`, so the class is a Struct: its fields are the
keys of the wire protocol (docs/reference/wire-protocol) and nothing else.
"""

import copy
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from aiorest_ws.exceptions import BaseAPIException, MalformedMessage

__all__ = ("LOGGED_URL_LENGTH", "RESERVED_EXTRA_NAMES", "Request", "Response")

LOGGED_URL_LENGTH = 200

# Set by the server or by its middlewares on a request; a client must never be able to.
RESERVED_EXTRA_NAMES = frozenset({"connection", "factory", "token_payload", "user"})


class _RequestMeta(msgspec.StructMeta):
    """Let `Request(...)` take extra keys, which a Struct refuses."""

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
    """What the server knows of a request, and nothing on the wire can reach.

    Slots, because an attribute of a Struct that is no field would cost every request a dict.
    """

    __slots__ = ("_begun", "_call_seconds", "_connection", "_factory", "_is_binary", "_log_id")


class Request(
    _ServerSide,
    msgspec.Struct,
    metaclass=_RequestMeta,
    forbid_unknown_fields=True,
    dict=True,
    eq=False,
):
    """A request of a client.

    Every further key of the message is an attribute of this one instance; MalformedMessage is
    raised for a key that would shadow a member, starts with `_`, or belongs to the server.
    `connection` and `factory` are None outside a server.
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
        extra_names = ()  # without an annotation it is no field

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
        """A name for this request in the log of the server, made when it is first asked for."""
        if not hasattr(self, "_log_id"):
            self._log_id = secrets.token_hex(6)
        return self._log_id

    @property
    def args(self) -> dict[str, Any]:
        """The arguments for the view; empty when the message had none."""
        if self._args is None:
            self._args = {}
        return self._args

    def get_argument(self, name: str) -> Any:
        """Return one of the arguments, None when it is missing."""
        return self._args.get(name) if self._args else None

    def to_representation(self) -> dict[str, Any]:
        """Return what a reply repeats of its request: `event_name`, and `id` if there was one."""
        if self.id is None:
            return {"event_name": self.event_name}
        return {"event_name": self.event_name, "id": self.id}

    def adopt(self, extra: dict[str, Any]) -> None:
        """Make each key of `extra` an attribute of this request."""
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
        # The connection and the factory are shared: a copy is of the same client.
        twin = copy.copy(self)
        for name in (*self.__struct_fields__, *self.extra_names):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        return twin

    def __repr__(self) -> str:
        # Shown in logs: no args, no data, no token, no extra key.
        method = self.method if isinstance(self.method, str) else type(self.method).__name__
        # A query may be one of theirs, too.
        path, query, _ = (
            self.url.partition("?") if isinstance(self.url, str) else (self.url, "", "")
        )
        url = ascii(f"{path}?..." if query else path)
        if len(url) > LOGGED_URL_LENGTH:
            url = f"{url[:LOGGED_URL_LENGTH]}..."
        return f"<Request {method[:20]!a} {url}>"


_MEMBERS = RESERVED_EXTRA_NAMES.union(dir(Request))


class Response:
    """The reply to a request, as middlewares see it before it is rendered.

    `status` is None for a success, the number of the failure otherwise.
    """

    __slots__ = ("_content", "status")

    def __init__(self) -> None:
        self._content: dict[str, Any] = {}
        self.status: int | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The reply as a dict: `data` or `detail`, and what `append_request` has merged."""
        return self._content

    @content.setter
    def content(self, value: Any) -> None:
        self._content.pop("detail", None)
        self.status = None
        self._content["data"] = value

    def wrap_exception(self, exc: BaseAPIException) -> None:
        """Become the failure that `exc` stands for."""
        self._content = {"detail": exc.detail}
        self.status = exc.status

    def append_request(self, request: Request) -> None:
        """Merge what the reply repeats of `request`."""
        self._content.update(request.to_representation())

    def to_representation(self) -> dict[str, Any]:
        """Return what goes on the wire, its keys in the order of the wire protocol."""
        rest = dict(self._content)
        ordered: dict[str, Any] = {
            name: rest.pop(name) for name in ("data", "detail") if name in rest
        }
        if self.status is not None:
            ordered["status"] = self.status
        ordered.update((name, rest.pop(name)) for name in ("event_name", "id") if name in rest)
        ordered.update(rest)
        return ordered
