"""Publishing to a broker on Redis."""

from aiorest_ws.topics.broker import Position, Retention

KEPT = Retention(256, 1 << 20, 300)


def publish(broker, data=b"1", topic="orders/1", key=None, kept=KEPT, wait=0.0):
    return broker.publish(topic, data, key=key, retention=kept, wait_seconds=wait)


async def offsets_kept(broker, topic="orders/1"):
    replay = await broker.replay(topic, Position("", 0), messages=10_000, size=1 << 30)
    return [message.offset for message in replay.messages]
