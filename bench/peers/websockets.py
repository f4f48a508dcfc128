"""websockets: its asyncio server on uvloop, no compression, no keep-alive, bytes both ways."""

import asyncio

from websockets.asyncio.server import ServerConnection, serve

from bench.peers.work import answer, listening_socket, options, run_on_uvloop, tls_context


async def handle(connection: ServerConnection) -> None:
    while True:  # until recv raises ConnectionClosed, which the server expects
        await connection.send(answer(await connection.recv(decode=False)), text=True)


async def main() -> None:
    async with serve(
        handle,
        sock=listening_socket(),
        ssl=tls_context(options()),
        compression=None,
        ping_interval=None,
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_on_uvloop(main)
