from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    Gap,
    RateLimit,
    ReconnectPolicy,
    WebSocketJSONRequest,
)


async def log_in(manager):
    """Runs on each new connection, before the subscriptions are sent again."""
    await manager.send(WebSocketJSONRequest({"op": "login"}, "ws"))
    answer = await manager.receive()
    if answer.data != {"op": "login", "ok": True}:
        raise PermissionError(answer.data)


def make_factory():
    return ConnectionManagersFactory(
        AsyncThrottler([RateLimit("ws", limit=5, time_interval=1)]),
        reconnect=ReconnectPolicy(
            initial_delay_seconds=0.05,
            max_delay_seconds=10,
            # Pings may be answered by a proxy; what counts is data.
            data_timeout_seconds=60,
            on_reconnect=log_in,
        ),
    )


async def listen(factory, ws_url, on_message, on_gap):
    manager = await factory.get_ws_manager()
    await manager.connect(ws_url)
    try:
        await log_in(manager)
        await manager.subscribe(
            WebSocketJSONRequest({"op": "subscribe", "to": "a"}, "ws")
        )
        await manager.subscribe(
            WebSocketJSONRequest({"op": "subscribe", "to": "b"}, "ws")
        )
        async for message in manager.iter_messages():
            if isinstance(message, Gap):
                # Something may be missing here: fetch the state anew.
                await on_gap(message)
            else:
                await on_message(message.data)
    finally:
        await manager.disconnect()


async def leave(manager, subscription):
    """Unsubscribe: tell the server, and have it forgotten for the next connection."""
    manager.forget(subscription)
    await manager.send(
        WebSocketJSONRequest({"op": "leave", **subscription.payload}, "ws")
    )
