"""The names of other libraries that are not public, and that this one uses all the same."""

import ast
import asyncio
import functools
import gc
import importlib
import importlib.metadata
import inspect
import re
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aiorest_ws
from aiorest_ws.connection import autobahn as autobahn_names
from aiorest_ws.internals import stdlib_private, uvloop_private


def find(path: str) -> Any:
    """Import the object at a dotted path."""
    module_name, _, rest = path.partition(":")
    found = importlib.import_module(module_name)
    for part in rest.split(".") if rest else ():
        found = getattr(found, part)
    return found


source_of = functools.cache(inspect.getsource)


def has_attribute(owner: Any, name: str) -> bool:
    """Tell whether a module or class has a name, or sets it on its instances."""
    if hasattr(owner, name):
        return True
    return isinstance(owner, type) and any(
        f"self.{name}" in source_of(base)
        for base in owner.__mro__
        if base.__module__ != "builtins"
    )


@dataclass(frozen=True)
class Private:
    """A name that is not public: `owner` is `module` or `module:Class`."""

    library: str
    owner: str
    name: str
    used_by: str
    use: str
    is_there: Callable[[Any, str], bool] = has_attribute

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


TWISTED = "aiorest_ws.internals.twisted_private"
STDLIB = "aiorest_ws.internals.stdlib_private"
AWAITING = "aiorest_ws.awaiting"
REDIS_URL = "aiorest_ws.topics.redis.url"

AUTOBAHN = "aiorest_ws.connection.autobahn"

PROTOCOL = "autobahn.twisted.websocket:WebSocketServerProtocol"
FACTORY = "autobahn.twisted.websocket:WebSocketServerFactory"
REACTOR = "twisted.internet.asyncioreactor:AsyncioSelectorReactor"
TWISTED_TLS = "twisted.protocols.tls:TLSMemoryBIOProtocol"
TWISTED_TCP = "twisted.internet.abstract:FileDescriptor"

# A name that a library has lost makes `test_a_private_name_is_still_there` fail: find what has
# taken its place, change the module `used_by`, and then the row.
TABLE = [
    Private(*("Twisted", REACTOR, "_asyncioEventloop", TWISTED), "the loop under the reactor"),
    Private(*("Twisted", TWISTED_TLS, "_appSendBuffer", TWISTED), "unsent bytes before TLS"),
    Private(*("Twisted", TWISTED_TCP, "dataBuffer", TWISTED), "unsent bytes"),
    Private(*("Twisted", TWISTED_TCP, "offset", TWISTED), "the part of them that is sent"),
    Private(*("Twisted", TWISTED_TCP, "_tempDataLen", TWISTED), "unsent bytes"),
    Private(*("Twisted", TWISTED_TCP, "bufferSize", TWISTED), "the high-water mark"),
    Private(
        *("Twisted", "twisted.application.twist._twist:Twist", "main", TWISTED),
        "whether twist runs the program",
    ),
    Private(
        *("Twisted", "twisted.application.app:ApplicationRunner", "run", TWISTED),
        "whether twistd runs the program",
    ),
    Private(
        *("Twisted", "twisted.internet._producer_helpers", "_PullToPush", TWISTED),
        "pull producers of an application",
    ),
    Private(
        *("Python", "asyncio.sslproto:_SSLProtocolTransport", "_ssl_protocol", STDLIB),
        "the transport under TLS",
    ),
    Private(
        *("Python", "asyncio.sslproto:SSLProtocol", "_transport", STDLIB),
        "the transport under TLS",
    ),
    Private(*("Python", "sys", "_current_frames", STDLIB), "the stack of the reactor thread"),
    Private(*("Python", "sys", "_getframe", TWISTED), "who runs the program"),
    Private(*("Python", "atexit", "_run_exitfuncs", STDLIB), "an exit status at the end"),
    Private(*("Python", "asyncio", "_get_running_loop", AWAITING), "a loop that may be missing"),
    Private(*("Python", "asyncio.tasks", "_enter_task", AWAITING), "the current task of a step"),
    Private(*("Python", "asyncio.tasks", "_leave_task", AWAITING), "the current task of a step"),
    *(
        Private(*("autobahn", PROTOCOL, name, AUTOBAHN), "what it calls, and what we call")
        for name in (
            *("_cancelAutoPingTimeoutCall", "_closeConnection", "_connectionLost"),
            *("_connectionMade", "_dataReceived", "_fail_connection", "_listeners"),
            *("_max_message_size_exceeded", "_onClose", "_onMessage", "_onOpen"),
            *("_parseExtensionsHeader", "_send", "_sendAutoPing", "_valid_events"),
            *("CONFIG_ATTRS", "consumeData", "dropConnection", "processData", "sendCloseFrame"),
        )
    ),
    *(
        Private(*("autobahn", PROTOCOL, name, AUTOBAHN), "what it sets as a connection begins")
        for name in sorted(autobahn_names.INITIAL)
    ),
    *(
        Private(*("autobahn", PROTOCOL, name, AUTOBAHN), "what it leaves of a handshake")
        for name in autobahn_names.NOT_KEPT
    ),
    *(
        Private(*("autobahn", PROTOCOL, name, AUTOBAHN), "an override that sees parts of messages")
        for name in autobahn_names.RECEIVING
        if name.startswith("_")
    ),
    Private(*("autobahn", FACTORY, "_batched_timer", AUTOBAHN), "its timers"),
    # Not underscored, and not documented either.
    Private(
        *("websockets", "websockets.speedups", "apply_mask", "aiorest_ws.framing"),
        "masks, in C; there is a slower way without it",
    ),
    Private(
        *("redis", "redis.asyncio.sentinel:SentinelConnectionPool", "sentinel_manager"),
        *(REDIS_URL, "the clients of the sentinels, which redis-py leaves open"),
    ),
    Private(*("redis", "redis.connection", "parse_url", REDIS_URL), "the types of URL options"),
]


@pytest.mark.parametrize("private", TABLE, ids=str)
def test_a_private_name_is_still_there(private):
    try:
        is_there = private.is_there(find(private.owner), private.name)
    except (ImportError, AttributeError):
        is_there = False
    if not is_there:
        if private.library == "Python":
            version = ""
        else:
            version = f" {importlib.metadata.version(private.library)}"
        pytest.fail(
            f"{private.library}{version} has no {private} any more, which {private.used_by} needs "
            f"for {private.use}: find what has taken its place, change that module, then this row."
        )


def test_a_name_that_is_lost_is_reported_with_what_to_do():
    lost = Private("Twisted", TWISTED_TCP, "_lost", TWISTED, "a test")
    with pytest.raises(pytest.fail.Exception, match=r"has no .*_lost any more, which .* change"):
        test_a_private_name_is_still_there(lost)


# What has no name: found by the garbage collector


async def under_tls(tls_files: tuple[str, str], found_by: Callable[[Any], Any]) -> bool:
    """Tell whether the transport under that of a server's TLS connection is found."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[bool] = loop.create_future()
    lost: list[asyncio.Future[None]] = []

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = loop.create_future()
            lost.append(self.lost)

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

    class Server(Client):
        def connection_made(self, transport: Any) -> None:
            under = found_by(transport)
            is_found = under is not None and under is not transport
            found.set_result(is_found and hasattr(under, "set_write_buffer_limits"))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_files[:2])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server = await loop.create_server(Server, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_connection(Client, "127.0.0.1", port, ssl=client)
    try:
        return await asyncio.wait_for(found, 60)
    finally:
        transport.close()
        await asyncio.gather(*lost)
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_the_transport_under_tls_is_found(kind, tls_files):
    if kind == "uvloop":
        loop = pytest.importorskip("uvloop").new_event_loop()
        found_by = uvloop_private.transport_under_tls
    else:
        loop = asyncio.SelectorEventLoop()
        found_by = stdlib_private.transport_under_tls
    # The loop of the main thread is running already.
    with ThreadPoolExecutor(1) as threads:
        work = under_tls(tls_files, found_by)
        is_found = threads.submit(loop.run_until_complete, work).result()
    loop.close()
    assert is_found, (
        f"{kind} does not lead from a TLS transport to the one under it any more: change "
        f"{found_by.__module__}, or the bytes that wait there are not counted."
    )


# Nothing else is used


def private_names(path: Path) -> set[tuple[str, str]]:
    """Return the underscored names that a module takes from modules of others."""
    tree = ast.parse(path.read_text())
    modules: dict[str, str] = {}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {name.asname or name.name: name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("aiorest_ws"):
            names = [name.name for name in node.names]
            found |= {(str(node.module), name) for name in names if is_private(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = modules.get(ast.unparse(node.value))
            if owner is not None:
                found.add((owner, node.attr))
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_module_takes_a_private_name_that_is_not_in_the_table():
    known = {(private.owner.partition(":")[0], private.name) for private in TABLE}
    root = Path(aiorest_ws.__file__).parent
    # In Python 3.11 garbage that is collected meanwhile breaks the parser (cpython#106905).
    gc.disable()
    try:
        found = {path: private_names(path) for path in root.rglob("*.py")}
    finally:
        gc.enable()
    known.add(("os", "_exit"))  # documented
    unknown = {
        f"{path.relative_to(root)}: {owner}.{name}"
        for path, names in found.items()
        for owner, name in names
        if (owner, name) not in known
    }
    assert not unknown, "add a row to TABLE, or do without: " + ", ".join(sorted(unknown))


def names_used(path: Path) -> set[str]:
    """Return the underscored names that a module defines in classes, or uses of objects."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    return {name for name in used if is_private(name)}


def test_private_names_of_autobahn_are_used_by_one_module_only():
    root = Path(aiorest_ws.__file__).parent
    own = root / "connection" / "autobahn.py"
    theirs = set()
    for base in find(PROTOCOL).__mro__:
        if base.__module__.startswith("autobahn"):
            theirs |= {name for name in vars(base) if is_private(name)}
            theirs |= set(re.findall(r"self\.(_[a-z]\w+)", inspect.getsource(base)))
    assert {"_onMessage", "_perMessageCompress"} <= theirs & names_used(own)
    for path in [*(root / "connection").rglob("*.py"), root / "request.py"]:
        if path != own:
            assert names_used(path) & theirs == set(), f"move it from {path.name} to {own.name}"
