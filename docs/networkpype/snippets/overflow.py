from networkpype import OverflowPolicy, ReceiveBuffer

# Keep only the latest price of each symbol.
latest = ReceiveBuffer(
    policy=OverflowPolicy.LATEST,
    max_messages=500,
    key=lambda response: response.data["symbol"],
)

# Prefer missing messages to old ones.
drop_oldest = ReceiveBuffer(policy=OverflowPolicy.DROP_OLDEST, max_messages=1000)

# Slow the server down.
block = ReceiveBuffer(policy=OverflowPolicy.BLOCK, max_messages=1000)

# Treat a full buffer as an error.
fail = ReceiveBuffer(policy=OverflowPolicy.RAISE, max_messages=1000)


async def prices(factory, ws_url, buffer, handle):
    manager = await factory.get_ws_manager()
    await manager.connect(ws_url, receive_buffer=buffer)
    try:
        async for message in manager.iter_messages():
            await handle(message.data)
    finally:
        await manager.disconnect()
