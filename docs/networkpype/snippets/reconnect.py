from networkpype import (
    AsyncThrottler,
    ConnectionManagersFactory,
    Gap,
    RateLimit,
    ReconnectPolicy,
    WebSocketJSONRequest,
)


async def log_in(manager):
    """Log in on each new connection, before the subscriptions are sent again."""
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
            # A proxy may answer pings, so only data counts.
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
                # Messages may be missing here: fetch the state again.
                await on_gap(message)
            else:
                await on_message(message.data)
    finally:
        await manager.disconnect()


async def leave(manager, subscription):
    """Unsubscribe on the server, and do not subscribe on the next connection."""
    manager.forget(subscription)
    await manager.send(
        WebSocketJSONRequest({"op": "leave", **subscription.payload}, "ws")
    )


async def connect_with_listen_key(manager, ws_url, fetch_listen_key, sign):
    async def url():
        return f"{ws_url}/{await fetch_listen_key()}"

    await manager.connect(url, ws_headers=lambda: {"X-Signature": sign()})


async def connect_with_heartbeat(manager, ws_url, seconds=20):
    await manager.connect(
        ws_url,
        heartbeat=(
            seconds,
            WebSocketJSONRequest({"op": "ping"}, "ws"),
            lambda message: message.data == {"op": "pong"},
        ),
    )
