"""What is measured: the peers, the rows, and the goals of the table in issue 4."""

import json
from dataclasses import dataclass, field

# --- the work

CALL = (
    b'{"method":"GET","url":"/users/42/orders/7","args":{"limit":10},"event_name":"orders"}',
    b'{"data":{"user":"42","order":"7","limit":10},"event_name":"orders"}',
)


def _large_data() -> str:
    """Return 64 KiB of JSON: records as an API has them, not one long string."""
    records: list[object] = [
        {"id": number, "name": f"Zoë Müller {number}", "paid": number % 3 == 0, "tags": ["a", "b"]}
        for number in range(1000, 1780)
    ]

    def text() -> str:
        return json.dumps(records, separators=(",", ":"), ensure_ascii=False)

    records.append("")
    records[-1] = "x" * (65536 - len(text().encode()))
    return text()


LARGE = (
    f'{{"method":"POST","url":"/echo","data":{_large_data()},"event_name":"large"}}'.encode(),
    f'{{"data":{_large_data()},"event_name":"large"}}'.encode(),
)

SALE = {
    "id": "12345678-1234-5678-1234-567812345678",
    "kind": "used",
    "at": "2026-01-02T03:04:05Z",
    "place": {"street": "Main Street 1", "city": "Springfield"},
    "article": "bicycle",
    "count": 2,
    "price": 119.5,
    "is_paid": True,
    "tags": ["a", "b"],
    "note": "by bicycle",
}


def _posted(url: str, data: object) -> tuple[bytes, bytes]:
    message = {"method": "POST", "url": url, "data": data, "event_name": "typed"}
    text = json.dumps(message, separators=(",", ":"))
    return text.encode(), b'{"data":1,"event_name":"typed"}'


TYPED = _posted("/sale", SALE)
# 64 KiB each.
TYPED_LARGE = _posted(
    "/records",
    [
        {"id": number, "name": f"article {number}", "price": number / 4, "paid": number % 3 == 0}
        for number in range(1000, 2130)
    ],
)
TYPED_LARGE_TEXTS = _posted("/sales", [SALE] * 275)

# What publishes, and the answer: encoded once, framed once for all (the message before).
PUBLISH = (
    b'{"method":"POST","url":"/publish","event_name":"publish"}',
    b'{"data":{"encoded":1,"framed":1},"event_name":"publish"}',
)
SUBSCRIBE = b'{"method":"SUBSCRIBE","url":"prices","event_name":"prices"}'

# --- who is measured


@dataclass(frozen=True)
class Peer:
    """A server: `module` under bench/peers, and what has to be installed for it."""

    name: str
    module: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    is_websocket: bool = True


OURS = Peer("ours", "ours", ("autobahn", "twisted"))

PEERS = (
    Peer("picows", "picows", ("picows",)),
    Peer("aiohttp", "aiohttp", ("aiohttp",)),
    Peer("websockets", "websockets", ("websockets",)),
    Peer("fastapi", "fastapi", ("fastapi", "uvicorn", "uvloop", "httptools", "websockets")),
    Peer("tornado", "tornado", ("tornado",)),
    Peer("autobahn", "autobahn", ("autobahn", "twisted")),
    Peer("echo", "echo", is_websocket=False),
)

# Variants of ours, which are compared with ours only.
COROUTINE = Peer("coroutine", "ours", OURS.needs, ("--coroutine",))
PLAIN = Peer("plain view", "ours", OURS.needs)
ONE_ROUTE = Peer("1 route", "ours", OURS.needs, ("--routes", "0"))
MANY_ROUTES = Peer("2,001 routes", "ours", OURS.needs, ("--routes", "1000"))

# Views that take data as a type, which take it untyped in PLAIN.
TYPED_VIEW = Peer("typed view", "ours", OURS.needs, ("--typed",))

# Middlewares that do nothing: what it takes to call them.
MIDDLEWARES = {
    kind: Peer(f"{kind} middleware", "ours", OURS.needs, ("--middlewares", kind))
    for kind in ("one", "three", "response", "asynchronous")
}

# Topics, and what each is compared with. REDIS_URL stands for a server made for the run.
REDIS_URL = "{redis}"
TOPICS = Peer("ours", "topics", OURS.needs)
PREPARED = Peer("autobahn", "prepared", ("autobahn", "twisted"))
TWO_PROCESSES = Peer(
    "2 on Redis", "topics", (*OURS.needs, "redis"), ("--topics", REDIS_URL, "--workers", "2")
)
ON_MEMORY = Peer("1 on memory", "topics", OURS.needs)

# --- rows


@dataclass(frozen=True)
class Goal:
    """A bound for ours divided by `peer`, or for ours itself when `peer` is None.

    `peer` may be `*`: every peer that was measured, the echo excepted. `least` or `most` is the
    bound, `aim` what is hoped for.
    """

    measure: str
    peer: str | None
    least: float | None = None
    most: float | None = None
    aim: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def __str__(self) -> str:
        bound = f">= {self.least:,g}" if self.least is not None else f"<= {self.most:,g}"
        return bound if self.aim is None else f"{bound} (aim {self.aim:,g})"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `kind` is calls, handshakes, idle or fan-out. The first of `own` is what goals mean by ours;
    without `own` it is the default server, and the peers are compared with it.
    """

    name: str
    text: str
    kind: str = "calls"
    connections: int = 64
    depth: int = 1
    work: tuple[bytes, bytes] = CALL
    tls: bool = False
    needs_websocket: bool = False
    own: tuple[Peer, ...] = ()
    goals: tuple[Goal, ...] = field(default=())

    @property
    def load_polls(self) -> bool:
        """Whether the load is to look for replies all the time, where it has a core for itself."""
        return self.kind == "calls" and self.connections > 1


ROWS = (
    Row(
        "one-in-flight",
        "64 connections, 1 call in flight each",
        goals=(
            Goal("rate", "picows", least=0.8, aim=1.0),
            Goal("rate", "aiohttp", least=1.3, aim=1.6),
            Goal("rate", "websockets", least=2.3, aim=2.7),
            Goal("rate", "fastapi", least=2.4, aim=2.7),
            Goal("rate", "autobahn", least=5.5, aim=6.5),
            Goal("rate", "echo", least=0.5, aim=0.6),
            Goal("p99", "picows", most=1.5, aim=1.0),
        ),
    ),
    Row(
        "sixteen-in-flight",
        "64 connections, 16 calls in flight each",
        depth=16,
        goals=(Goal("rate", "picows", least=2.0, aim=2.5),),
    ),
    Row("single", "1 connection, 1 call in flight", connections=1),
    Row(
        "large",
        "16 connections, 64 KiB of JSON echoed through a view",
        connections=16,
        work=LARGE,
        goals=(Goal("rate", "aiohttp", least=1.0),),
    ),
    Row(
        "tls",
        "64 connections, 1 call in flight each, TLS",
        tls=True,
        needs_websocket=True,
        goals=(Goal("rate", "aiohttp", least=1.2),),
    ),
    Row(
        "coroutine",
        "a coroutine view that does not suspend, against the same plain view",
        own=(COROUTINE, PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.85),),
    ),
    Row(
        "middleware",
        "one synchronous middleware, against the same view without",
        own=(MIDDLEWARES["one"], PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.95),),
    ),
    Row(
        "middleware-three",
        "three synchronous middlewares, against the same view without",
        own=(MIDDLEWARES["three"], PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.93),),
    ),
    Row(
        "middleware-response",
        "a middleware with process_response, against the same view without",
        own=(MIDDLEWARES["response"], PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.9),),
    ),
    Row(
        "middleware-asynchronous",
        "an asynchronous middleware that does not suspend, against the same view without",
        own=(MIDDLEWARES["asynchronous"], PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.75),),
    ),
    Row(
        "typed",
        "data as a type with ten fields, against the same view untyped",
        work=TYPED,
        own=(TYPED_VIEW, PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.88),),
    ),
    Row(
        "typed-large",
        "64 KiB of data as records of str, int, float and bool, against the same view untyped",
        connections=16,
        work=TYPED_LARGE,
        own=(TYPED_VIEW, PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.95),),
    ),
    Row(
        "typed-large-texts",
        "64 KiB of data with enum, UUID and datetime, against the same view untyped",
        connections=16,
        work=TYPED_LARGE_TEXTS,
        own=(TYPED_VIEW, PLAIN),
        goals=(Goal("rate", PLAIN.name, least=0.8),),
    ),
    Row(
        "routes",
        "1,000 plain and 1,000 dynamic routes besides the one called, against that one alone",
        own=(MANY_ROUTES, ONE_ROUTE),
        goals=(Goal("rate", ONE_ROUTE.name, least=0.95),),
    ),
    Row(
        "handshakes",
        "new connections per second, 64 at a time: connect, upgrade, closing handshake",
        kind="handshakes",
        needs_websocket=True,
        goals=(Goal("rate", "autobahn", least=1.5),),
    ),
    Row(
        "memory",
        "resident bytes per idle connection",
        kind="idle",
        connections=5000,
        needs_websocket=True,
        goals=(
            Goal("bytes", None, most=8192, aim=6144),
            Goal("bytes", "*", most=1.0),
        ),
    ),
    Row(
        "fan-out",
        "one publish to 5,000 subscribers, against Autobahn's sendPreparedMessage",
        kind="fan-out",
        connections=5000,
        work=PUBLISH,
        own=(TOPICS, PREPARED),
        goals=(Goal("per_core", PREPARED.name, least=2.5, aim=3.5),),
    ),
    Row(
        "fan-out-redis",
        "the same through Redis: it and two processes on the core that one on memory has",
        kind="fan-out",
        connections=5000,
        work=PUBLISH,
        own=(TWO_PROCESSES, ON_MEMORY),
        goals=(Goal("per_core", ON_MEMORY.name, least=0.8),),
    ),
)
