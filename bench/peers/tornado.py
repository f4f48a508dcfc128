"""Tornado: its WebSocketHandler on uvloop; compression is off unless asked for."""

import asyncio

from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from bench.peers.work import answer, listening_socket, options, run_on_uvloop, tls_context


class Handler(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(answer(message))

    def data_received(self, chunk: bytes) -> None:
        raise NotImplementedError


async def main() -> None:
    application = Application([("/", Handler)], log_function=lambda _handler: None)
    server = HTTPServer(application, ssl_options=tls_context(options()))
    server.add_socket(listening_socket())
    await asyncio.Event().wait()


if __name__ == "__main__":
    run_on_uvloop(main)
