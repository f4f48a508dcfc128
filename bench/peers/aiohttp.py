"""aiohttp: a WebSocketResponse without compression, payloads left as bytes, on uvloop."""

import asyncio

from aiohttp import WSMsgType, web

from bench.peers.work import answer, listening_socket, options, run_on_uvloop, tls_context


async def handle(request: web.Request) -> web.WebSocketResponse:
    # Bytes instead of str both ways: documented, and one conversion less in each.
    socket = web.WebSocketResponse(compress=False, decode_text=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_frame(answer(message.data), WSMsgType.TEXT)
    return socket


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listening_socket(), ssl_context=tls_context(options())).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run_on_uvloop(main)
