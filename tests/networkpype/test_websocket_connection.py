"""One WebSocket against a real server."""

import asyncio
import ssl as tls
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from websocket_servers import Run, Serve, Server, connected, until

from networkpype.exceptions import (
    ClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionStateError,
    DisconnectedError,
    InvalidURLError,
    ReceiveTimeoutError,
    WebSocketClosedError,
    WebSocketHandshakeError,
)
from networkpype.factory import ConnectionsFactory
from networkpype.websocket.buffer import ReceiveBuffer
from networkpype.websocket.connection import WebSocketConnection
from networkpype.websocket.json_codec import JSONCodec
from networkpype.websocket.request import (
    WebSocketBinaryRequest,
    WebSocketJSONRequest,
    WebSocketPlainTextRequest,
)


def test_three_kinds_of_message_arrive_as_sent(run: Run, serve: Serve) -> None:
    """JSON in text, text as it is, bytes in binary; and back again."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, server):
            await connection.send(WebSocketJSONRequest({"a": [1, "ü"]}))
            await connection.send(WebSocketPlainTextRequest("hello ü"))
            await connection.send(WebSocketBinaryRequest(b"\x00\x01"))
            received = [(await connection.receive()).data for _ in range(3)]
            assert received == [{"a": [1, "ü"]}, "hello ü", b"\x00\x01"]
            assert server.seen == [
                (WSMsgType.TEXT, '{"a":[1,"ü"]}'),
                (WSMsgType.TEXT, "hello ü"),
                (WSMsgType.BINARY, b"\x00\x01"),
            ]

    run(scenario())


def test_text_is_json_or_itself(run: Run, serve: Serve) -> None:
    """Whatever is JSON is decoded, the rest is str, binary is bytes."""

    async def scenario() -> None:
        path = "/texts?t=12&t=null&t=%22s%22&t=&t=hello&t=%5B1%2C2%5D&t=%7B"
        async with connected(serve, path) as (connection, _):
            data = [(await connection.receive()).data for _ in range(8)]
            assert data == [12, None, "s", "", "hello", [1, 2], "{", b"\x00\xff"]
            (type_of_binary,) = {type(data[-1])}
            assert type_of_binary is bytes

    run(scenario())


def test_json_codec_is_injectable(run: Run, serve: Serve) -> None:
    """Both directions use the codec that the connection is given."""

    async def scenario() -> None:
        server = Server()
        codec = JSONCodec(decode=lambda text: ("decoded", text), encode=lambda payload: "encoded")
        async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session, json_codec=codec)
            await connection.connect(local.url("/talk"))
            await connection.send(WebSocketJSONRequest({"a": 1}))
            assert (await connection.receive()).data == ("decoded", "encoded")
            await connection.disconnect()

    run(scenario())


@pytest.mark.parametrize("auto_ping", [False, True])
def test_pings_are_answered_with_their_payload_and_hidden(
    run: Run, serve: Serve, auto_ping: bool
) -> None:
    """The server sees its payload; the receiver sees neither ping nor pong."""

    async def scenario() -> None:
        async with connected(serve, "/ping", auto_ping=auto_ping) as (connection, server):
            assert (await connection.receive()).data == "done"
            assert server.seen[0].type is WSMsgType.PONG
            assert server.seen[0].data == b"payload of a ping"

    run(scenario())


def test_message_timeout_counts_data(run: Run, serve: Serve) -> None:
    """A ping does not satisfy a receive(), and does not prolong it; the connection stays."""

    async def scenario() -> None:
        async with connected(serve, "/ping?mute=1", message_timeout=0.05) as (connection, _):
            with pytest.raises(ReceiveTimeoutError, match=r"^Message receive timed out\.$"):
                await connection.receive()
            assert connection.connected
            assert connection.last_recv_time == 0.0
            with pytest.raises(TimeoutError):
                await connection.receive()

    run(scenario())


def test_message_timeout_leaves_a_message_in_time_alone(run: Run, serve: Serve) -> None:
    """With time enough, messages come as without a bound."""

    async def scenario() -> None:
        async with connected(serve, "/talk", message_timeout=50) as (connection, _):
            await connection.send_text("1")
            assert (await connection.receive()).data == 1

    run(scenario())


def test_last_recv_time_is_of_the_last_data(run: Run, serve: Serve) -> None:
    """It is 0.0 at first, and then between before and after the receive()."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, _):
            assert connection.last_recv_time == 0.0
            before = time.time()
            await connection.send_bytes(b"x")
            await connection.receive()
            assert before <= connection.last_recv_time <= time.time()

    run(scenario())


def test_connected_only_while_it_is(run: Run, serve: Serve) -> None:
    """False before, true while, false after; and disconnect() can be repeated."""

    async def scenario() -> None:
        server = Server()
        async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            assert not connection.connected
            await connection.disconnect()
            await connection.connect(local.url("/talk"))
            assert connection.connected
            await connection.disconnect()
            assert not connection.connected
            await connection.disconnect()
            await until(lambda: server.open_count == 0)
            await connection.connect(local.url("/talk"))
            assert connection.connected
            await connection.disconnect()

    run(scenario())


def test_not_connected_is_a_runtime_error(run: Run) -> None:
    """Each use of a connection that is not connected says so."""

    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            uses = (
                connection.receive(),
                connection.ping(),
                connection.send(WebSocketJSONRequest({})),
                connection.send_text("x"),
            )
            for use in uses:
                with pytest.raises(RuntimeError, match="not connected") as caught:
                    await use
                assert isinstance(caught.value, DisconnectedError)

    run(scenario())


def test_connected_twice_is_a_runtime_error(run: Run, serve: Serve) -> None:
    """The open connection is left as it is."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, server):
            with pytest.raises(RuntimeError, match=r"^WebSocket is connected\.$"):
                await connection.connect("ws://127.0.0.1:1/")
            await connection.send_text("1")
            assert (await connection.receive()).data == 1
            assert server.open_count == 1

    run(scenario())


def test_second_connect_at_the_same_time_does_not_leak(run: Run, serve: Serve) -> None:
    """One of two concurrent connects wins; the server sees one WebSocket, and then none."""

    async def scenario() -> None:
        server = Server()
        async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            results = await asyncio.gather(
                *(connection.connect(local.url("/talk")) for _ in range(3)),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [
                type(None),
                ConnectionStateError,
                ConnectionStateError,
            ]
            assert len(server.headers) == 1
            await connection.disconnect()
            await until(lambda: server.open_count == 0)

    run(scenario())


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 4321])
def test_close_by_the_server_names_its_code_once(run: Run, serve: Serve, code: int) -> None:
    """The loss is raised once, with code and reason; after it nothing is connected."""

    async def scenario() -> None:
        async with connected(serve, f"/close?code={code}") as (connection, _):
            with pytest.raises(ConnectionError, match=f"Close code = {code}") as caught:
                await connection.receive()
            assert isinstance(caught.value, WebSocketClosedError)
            assert (caught.value.code, caught.value.reason) == (code, "because")
            assert not connection.connected
            with pytest.raises(RuntimeError):
                await connection.receive()

    run(scenario())


def test_oversized_message_is_a_clear_error(run: Run, serve: Serve) -> None:
    """It ends the connection with 1009 and says which limit was exceeded."""

    async def scenario() -> None:
        async with connected(serve, "/big") as (connection, _):
            with pytest.raises(WebSocketClosedError) as caught:
                await connection.receive()
            fault = "a message exceeds `max_msg_size`"
            assert (caught.value.code, caught.value.reason) == (1009, fault)
            assert str(caught.value) == (
                f"WebSocket is closed for a fault of the server: {fault}. Close code = 1009"
            )
            assert isinstance(caught.value.__cause__, aiohttp.WebSocketError)
            assert not connection.connected

    run(scenario())


def test_max_msg_size_lets_a_big_message_in(run: Run, serve: Serve) -> None:
    """The bound is an option."""

    async def scenario() -> None:
        async with connected(serve, "/big", max_msg_size=6 * 2**20) as (connection, _):
            assert len((await connection.receive()).data) == 5 * 2**20

    run(scenario())


def test_disconnect_ends_a_pending_receive(run: Run, serve: Serve) -> None:
    """The receiver gets a clean error, and the server a proper close."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, server):
            receiver = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            await connection.disconnect()
            with pytest.raises(DisconnectedError):
                await receiver
            await until(lambda: server.open_count == 0)

    run(scenario())


def test_two_disconnects_at_the_same_time_are_one(run: Run, serve: Serve) -> None:
    """Both return when it is closed, a cancelled one does not break it off."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, server):
            first = asyncio.create_task(connection.disconnect())
            second = asyncio.create_task(connection.disconnect())
            await asyncio.sleep(0)
            with pytest.raises(ConnectionStateError, match="closing"):
                await connection.connect("ws://127.0.0.1:1/")
            first.cancel()
            await second
            assert not connection.connected
            await until(lambda: server.open_count == 0)

    run(scenario())


def test_two_receivers_at_a_time_are_refused(run: Run, serve: Serve) -> None:
    """The second one is told; the first one still gets its message."""

    async def scenario(**options: Any) -> None:
        async with connected(serve, "/talk", **options) as (connection, _):
            first = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            with pytest.raises(ConnectionStateError):
                await connection.receive()
            await connection.send_text("1")
            assert (await first).data == 1

    run(scenario())
    run(scenario(receive_buffer=ReceiveBuffer()))


def test_cancelled_receive_loses_nothing(run: Run, serve: Serve) -> None:
    """The message goes to the next receive()."""

    async def scenario() -> None:
        async with connected(serve, "/talk") as (connection, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.receive(), 0.01)
            await connection.send_text("1")
            assert (await connection.receive()).data == 1

    run(scenario())


def test_disconnect_while_connecting_ends_the_attempt(run: Run) -> None:
    """A server that never answers the handshake does not hold connect() for ever."""

    async def scenario() -> None:
        accepted = asyncio.Event()

        async def accept(reader: Any, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            attempt = asyncio.create_task(connection.connect(f"ws://127.0.0.1:{port}/"))
            await accepted.wait()
            await connection.disconnect()
            with pytest.raises(ClosedError, match="disconnected"):
                await attempt
            assert not connection.connected
            with pytest.raises(DisconnectedError):
                await connection.receive()

    run(scenario())


def test_cancelled_connect_can_be_repeated(run: Run, serve: Serve) -> None:
    """Cancellation leaves the connection as it was before."""

    async def scenario() -> None:
        server = Server()
        async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            attempt = asyncio.create_task(connection.connect(local.url("/talk")))
            await asyncio.sleep(0)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            await connection.connect(local.url("/talk"))
            assert connection.connected
            await connection.disconnect()

    run(scenario())


def test_errors_of_connect_are_of_this_package(run: Run, serve: Serve) -> None:
    """Refused, not a WebSocket, not a URL: each is mapped, and an aiohttp error too."""

    async def scenario() -> None:
        server = Server()
        async with serve(server.routes()) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            with pytest.raises(ConnectError) as refused:
                await connection.connect("ws://127.0.0.1:1/")
            assert isinstance(refused.value, aiohttp.ClientConnectorError)
            with pytest.raises(WebSocketHandshakeError) as no_websocket:
                await connection.connect(local.url("/plain"))
            assert no_websocket.value.status == 403
            with pytest.raises(InvalidURLError) as no_url:
                await connection.connect("no url")
            assert isinstance(no_url.value, ValueError)
            await connection.connect(local.url("/talk"))
            await connection.disconnect()

    run(scenario())


def test_closed_session_is_named(run: Run) -> None:
    """Neither a closed session nor a closed factory gives an error of aiohttp's."""

    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
        with pytest.raises(ClosedError, match="WebSocketConnection"):
            await connection.connect("ws://127.0.0.1:1/")
        factory = ConnectionsFactory()
        connection = await factory.get_ws_connection()
        await factory.close()
        with pytest.raises(ClosedError, match="factory"):
            await connection.connect("ws://127.0.0.1:1/")

    run(scenario())


def test_factory_that_closes_ends_receive(run: Run, serve: Serve) -> None:
    """A pending receive() does not hang when its session is closed."""

    async def scenario() -> None:
        server = Server()
        async with serve(server.routes()) as local, ConnectionsFactory() as factory:
            connection = await factory.get_ws_connection()
            await connection.connect(local.url("/talk"))
            receiver = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            await factory.close()
            with pytest.raises(ConnectionError, match="1006"):
                await receiver
            assert not connection.connected

    run(scenario())


def test_headers_and_protocols_are_sent(run: Run, serve: Serve) -> None:
    """Options reach the handshake."""

    async def scenario() -> None:
        options = {"ws_headers": {"X-Key": "k"}, "protocols": ("v2", "v1")}
        async with connected(serve, "/talk", **options) as (_, server):
            assert server.headers[0]["X-Key"] == "k"
            assert server.headers[0]["Sec-WebSocket-Protocol"] == "v2,v1"

    run(scenario())


def test_proxy_is_used(run: Run, serve: Serve) -> None:
    """The request goes to the proxy, with its headers."""

    async def scenario() -> None:
        heads = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            with pytest.raises(aiohttp.ClientHttpProxyError) as caught:
                await connection.connect(
                    "wss://example.invalid/feed",
                    proxy=f"http://127.0.0.1:{port}",
                    proxy_headers={"Proxy-Authorization": "Basic eA=="},
                )
            assert caught.value.status == 407
            with pytest.raises(WebSocketHandshakeError):
                await connection.connect(
                    "ws://example.invalid/feed", proxy=f"http://127.0.0.1:{port}"
                )
        assert heads[1].startswith(b"GET ws://example.invalid/feed ")
        assert heads[0].startswith(b"CONNECT example.invalid:443 ")
        assert b"Proxy-Authorization: Basic eA==" in heads[0]

    run(scenario())


class RecordingSource:
    """A source of sessions whose session keeps what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def current(self) -> Any:
        return self

    def add_scope(self, scope: Any) -> None: ...

    def discard_scope(self, scope: Any) -> None: ...

    async def ws_connect(self, url: str, **options: Any) -> Any:
        self.asked.append(options)
        raise aiohttp.ClientConnectionError("recorded")


def test_ssl_options_reach_the_session(run: Run) -> None:
    """verify_ssl is aiohttp's ssl flag, a context takes its place, both at once are refused."""

    async def scenario() -> None:
        source: Any = RecordingSource()
        context = tls.create_default_context()
        connection = WebSocketConnection(source)
        for options in ({}, {"verify_ssl": False}, {"ssl": context}):
            with pytest.raises(aiohttp.ClientConnectionError):
                await connection.connect("wss://example.invalid/", **options)
        assert [asked["ssl"] for asked in source.asked] == [True, False, context]
        with pytest.raises(ConfigurationError):
            await connection.connect("wss://x.invalid/", verify_ssl=False, ssl=context)

    run(scenario())


def test_disconnect_after_an_untold_loss_forgets_it(run: Run, serve: Serve) -> None:
    """A loss that nobody received does not come up after disconnect()."""

    async def scenario() -> None:
        buffer = ReceiveBuffer()
        async with connected(serve, "/close?code=1001", receive_buffer=buffer) as (connection, _):
            await until(lambda: not connection.connected)
            await connection.disconnect()
            with pytest.raises(DisconnectedError):
                await connection.receive()

    run(scenario())


def test_ping_is_sent(run: Run, serve: Serve) -> None:
    """ping() reaches the server, its pong is hidden."""

    async def scenario() -> None:
        got = []

        async def handler(request: web.Request) -> Any:
            websocket = web.WebSocketResponse(autoping=False)
            await websocket.prepare(request)
            message = await websocket.receive()
            got.append(message.type)
            await websocket.pong(message.data)
            await websocket.send_str("1")
            await websocket.receive()
            return websocket

        async with serve({"/p": handler}) as local, aiohttp.ClientSession() as session:
            connection = WebSocketConnection(session)
            await connection.connect(local.url("/p"))
            await connection.ping()
            assert (await connection.receive()).data == 1
            assert got == [WSMsgType.PING]
            await connection.disconnect()

    run(scenario())
