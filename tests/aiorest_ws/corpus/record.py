"""Record what real clients send: their bytes after the opening handshake, one file a session.

Run by hand, see README: python tests/aiorest_ws/corpus/record.py [chromium] [node]
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp
import autobahn.asyncio.websocket as autobahn
import websockets
from aiohttp import WSMsgType
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept

HERE = Path(__file__).parent
ANSWER_SECONDS = 20

TEXTS = (
    "",
    "a",
    '{"method": "GET", "url": "/"}',
    "kůň 馬 🐎" * 5,
    "x" * 125,
    "y" * 126,
    "z" * 3000,
)
BINARIES = (b"", b"\x00\xff", bytes(range(256)), b"\x81\x05" * 700)

PAGE = """<body><script>
const socket = new WebSocket("ws://127.0.0.1:PORT/");
const sizes = [0, 1, 125, 126, 3000];
socket.binaryType = "arraybuffer";
socket.onopen = () => {
    for (const size of sizes) {
        socket.send("ž".repeat(size));
        socket.send(new Uint8Array(size));
    }
    socket.send("end");
};
socket.onmessage = (event) => { if (event.data === "end") socket.close(3001, "done é"); };
</script>"""


class Recorder:
    """A server that echoes, behind a proxy that keeps what clients send."""

    def __init__(self, compression: str | None) -> None:
        self.compression = compression
        self.recorded: asyncio.Queue[bytes] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self.server = await websockets.serve(
            self._echo, "127.0.0.1", 0, compression=self.compression
        )
        self.target = self.server.sockets[0].getsockname()[1]
        self.proxy = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self.proxy.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.proxy.close()
        self.server.close()
        await self.server.wait_closed()

    async def _echo(self, connection: Any) -> None:
        # A ping of the server, too: the pong is a part of the stream.
        await connection.ping(b"are you there")
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async def _relay(self, reader: Any, writer: Any) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        kept = []

        async def pump(source: Any, sink: Any, keep: Any) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    keep(data)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(
            pump(reader, inner_writer, kept.append),
            pump(inner_reader, writer, lambda data: None),
        )
        head, _, stream = b"".join(kept).partition(b"\r\n\r\n")
        if b"upgrade: websocket" in head.lower():
            self.recorded.put_nowait(stream)

    async def save(self, name: str) -> None:
        stream = await asyncio.wait_for(self.recorded.get(), ANSWER_SECONDS)
        (HERE / f"{name}.bin").write_bytes(stream)
        print(name, len(stream), "bytes")  # noqa: T201


async def with_websockets(port: int, compression: str | None) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/", compression=compression) as client:
        for message in (*TEXTS, *BINARIES):
            await client.send(message)
            await client.recv()
        await client.send(["frag", "", "ments of ", "a téxt"])  # one frame each
        await client.recv()
        await client.send([b"\x00" * 130, b"\xff" * 10])
        await (await client.ping(b"p" * 125))
        await client.recv()
        await client.close(4000, "reason")


async def with_aiohttp(port: int, compress: int) -> None:
    url = f"http://127.0.0.1:{port}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=compress) as client,
    ):
        for text in TEXTS:
            await client.send_str(text)
        await client.ping(b"ping")
        for binary in BINARIES:
            await client.send_bytes(binary)
        for _ in (*TEXTS, *BINARIES):
            assert (await client.receive()).type in {WSMsgType.TEXT, WSMsgType.BINARY}
        await client.close(code=1001)


async def with_autobahn(port: int, is_compressed: bool) -> None:
    closed = asyncio.get_running_loop().create_future()

    class Client(autobahn.WebSocketClientProtocol):
        def onOpen(self) -> None:
            for text in TEXTS:
                self.sendMessage(text.encode())
            for binary in BINARIES:
                self.sendMessage(binary, isBinary=True, fragmentSize=100)
            self.sendPing(b"\xff\x00")
            self.sendMessage(b"end")

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            if payload == b"end":
                self.sendClose(1000, "bye ř")

        def onClose(self, *how: Any) -> None:
            closed.set_result(how)

    factory = autobahn.WebSocketClientFactory(f"ws://127.0.0.1:{port}/")
    factory.protocol = Client
    if is_compressed:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        )
    await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
    await asyncio.wait_for(closed, ANSWER_SECONDS)


async def with_node(port: int) -> None:
    script = PAGE.partition("<script>")[2].partition("</script>")[0].replace("PORT", str(port))
    # Node 22 needs no flag.
    process = await asyncio.create_subprocess_exec(
        "node", "--experimental-websocket", "-e", script
    )
    await asyncio.wait_for(process.wait(), ANSWER_SECONDS)


async def with_chromium(port: int, recorder: Recorder, name: str) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder) / "page.html"
        page.write_text(PAGE.replace("PORT", str(port)))
        process = await asyncio.create_subprocess_exec(
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}/profile", page.as_uri()),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await recorder.save(name)
        finally:
            process.terminate()
            await process.wait()


async def main(browsers: list[str]) -> None:
    for compression in (None, "deflate"):
        suffix = "-deflate" if compression else ""
        async with Recorder(compression) as recorder:
            await with_websockets(recorder.port, compression)
            await recorder.save(f"websockets{suffix}")
            await with_aiohttp(recorder.port, 15 if compression else 0)
            await recorder.save(f"aiohttp{suffix}")
            await with_autobahn(recorder.port, bool(compression))
            await recorder.save(f"autobahn{suffix}")
            # Node does not compress.
            if "node" in browsers and not compression and shutil.which("node"):
                await with_node(recorder.port)
                await recorder.save(f"node{suffix}")
            if "chromium" in browsers and shutil.which("chromium"):
                await with_chromium(recorder.port, recorder, f"chromium{suffix}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
