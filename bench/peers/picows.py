"""picows: its core API, on uvloop, with the transports that it takes by itself."""

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from bench.peers.work import answer, listening_socket, options, run_on_uvloop, tls_context


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, answer(frame.get_payload_as_memoryview()))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main() -> None:
    context = tls_context(options())
    server = await ws_create_server(
        lambda _request: Listener(), sock=listening_socket(), ssl=context
    )
    await server.serve_forever()


if __name__ == "__main__":
    run_on_uvloop(main)
