"""A protocol that speaks MessagePack in binary messages, and logs its clients."""

import logging

import msgspec

from aiorest_ws import Application, RequestHandlerProtocol
from aiorest_ws.exceptions import MalformedMessage
from first_server import router

logger = logging.getLogger("clients")


class MessagePackProtocol(RequestHandlerProtocol):
    messages = 0

    def onMessage(self, payload, isBinary):
        self.messages += 1
        super().onMessage(payload, isBinary)

    def onClose(self, wasClean, code, reason):
        logger.info(
            "%s sent %d messages, closed by %s",
            self.peer,
            self.messages,
            self.close_reason.code,
        )

    def _decode_message(self, payload, isBinary=False):
        if isBinary:
            try:
                payload = msgspec.json.encode(msgspec.msgpack.decode(payload))
            except (msgspec.MsgspecError, UnicodeError) as exc:
                raise MalformedMessage("The message is not MessagePack.") from exc
        return super()._decode_message(payload)

    def _encode_message(self, response, isBinary=False):
        if isBinary:
            return msgspec.msgpack.encode(msgspec.json.decode(response))
        return super()._encode_message(response)


app = Application(protocol=MessagePackProtocol, router=router)
