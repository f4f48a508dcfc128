"""A TCP echo on bare asyncio: no WebSocket, no JSON, the limit of the machine and the loop."""

import asyncio
from typing import Any

from bench.peers.work import listening_socket, run_on_uvloop


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, sock=listening_socket())
    await server.serve_forever()


if __name__ == "__main__":
    run_on_uvloop(main)
