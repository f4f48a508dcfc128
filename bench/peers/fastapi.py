"""FastAPI on uvicorn: uvloop, httptools, uvicorn's fastest WebSocket implementation."""

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.peers.work import answer, listening_socket, options

# The fastest of uvicorn 0.54's three here, ahead of websockets and wsproto.
IMPLEMENTATION = "websockets-sansio"

app = FastAPI()


@app.websocket("/")
async def handle(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(answer(await websocket.receive_text()).decode())
    except WebSocketDisconnect:
        pass


def main() -> None:
    given = options()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws=IMPLEMENTATION,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        access_log=False,
        log_level="warning",
        lifespan="off",
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
    )
    uvicorn.Server(config).run(sockets=[listening_socket()])


if __name__ == "__main__":
    main()
