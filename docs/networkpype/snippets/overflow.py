from networkpype import OverflowPolicy, ReceiveBuffer

# Only the newest price of each symbol is of interest.
latest = ReceiveBuffer(
    policy=OverflowPolicy.LATEST,
    max_messages=500,
    key=lambda response: response.data["symbol"],
)

# A hole is better than old news.
drop_oldest = ReceiveBuffer(policy=OverflowPolicy.DROP_OLDEST, max_messages=1000)

# The server is to feel that we are slow.
block = ReceiveBuffer(policy=OverflowPolicy.BLOCK, max_messages=1000)

# To be slow is a fault of ours, and is to be seen.
fail = ReceiveBuffer(policy=OverflowPolicy.RAISE, max_messages=1000)


async def prices(factory, ws_url, buffer, handle):
    manager = await factory.get_ws_manager()
    await manager.connect(ws_url, receive_buffer=buffer)
    try:
        async for message in manager.iter_messages():
            await handle(message.data)
    finally:
        await manager.disconnect()
