"""Subscribers that come and go, and publishers: `python -m soak.delivery PORT OPTIONS`.

OPTIONS is JSON: see `Options`. Prints a line of JSON when all have subscribed, and waits for a
line of input; then messages are published for `seconds`, and the last line tells what came of it.
Faults end the run before its time.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass

import msgspec
import uvloop

from soak.delivery_checker import Follower, Ledger, Place
from soak.delivery_names import history_of, topic_names
from soak.wire import Client, close_frame, frame, open_client, tell

AT_ONCE = 100  # handshakes under way
RETRY_SECONDS = 0.5  # at most, when a connection is refused or a SUBSCRIBE fails
UNAVAILABLE = 503
decode = msgspec.json.decode


@dataclass
class Options:
    subscribers: int
    topics: int
    rate: int
    seconds: float
    seed: int = 1
    # How long a subscriber stays, and is away, on average; few are away for longer on purpose.
    stay_seconds: float = 8.0
    away_seconds: float = 0.5
    long_seconds: float = 6.0
    long_part: float = 0.2
    # Each publisher is a connection; `waiting` of them ask to wait for so many seconds.
    publishers: int = 4
    waiting: int = 0
    wait_seconds: float = 0.0
    # What a message has besides its number.
    filling_bytes: int = 0
    may_change_epoch: bool = False
    answer_seconds: float = 30.0
    settle_seconds: float = 60.0
    # So many end the run.
    enough_faults: int = 1


class Run:
    def __init__(self, port: int, options: Options) -> None:
        self.port = port
        self.options = options
        self.random = random.Random(options.seed)
        self.ledger = Ledger(history_of, options.may_change_epoch)
        self.topics = topic_names(options.topics)
        self.filling = " " + "x" * options.filling_bytes
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.is_over = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self.subscribers = [
            Subscriber(self, number, self.topics[number % len(self.topics)])
            for number in range(options.subscribers)
        ]
        waiting = options.publishers - options.waiting
        self.publishers = [
            Publisher(self, number, options.wait_seconds if number >= waiting else 0.0)
            for number in range(options.publishers)
        ]

    @property
    def has_failed(self) -> bool:
        return len(self.ledger.faults) >= self.options.enough_faults

    async def connect(self, on_message, number):
        """Return an open connection, as soon as there is one."""
        while True:
            try:
                async with self.gate:
                    return await open_client(self.port, on_message, number)
            except (OSError, TimeoutError):
                self.counts["refused"] += 1
            await asyncio.sleep(self.random.uniform(0.1, RETRY_SECONDS))

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in self.subscribers]
            async with asyncio.timeout(self.options.settle_seconds):
                for one in self.subscribers:
                    await one.subscribed.wait()
            tell({"subscribed": len(self.subscribers)})
            await asyncio.to_thread(sys.stdin.readline)
            await self.publish()
            self.is_over.set()
            await self.settle()
            for task in tasks:
                task.cancel()

    async def publish(self) -> None:
        connections = [asyncio.create_task(one.live()) for one in self.publishers]
        start = time.monotonic()
        done = 0
        while (now := time.monotonic() - start) < self.options.seconds and not self.has_failed:
            due = int(now * self.options.rate)
            for number in range(done, due):
                publisher = self.publishers[number % len(self.publishers)]
                publisher.publish(self.random.choice(self.topics), f"message {number}")
            done = due
            await asyncio.sleep(0.005)
        await self.until(lambda: not any(one.pending for one in self.publishers))
        for publisher in self.publishers:
            for topic, data, _ in publisher.pending.values():
                self.ledger.fault("a publish without an answer", topic, data)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def until(self, holds) -> None:
        """Wait until something holds, or there are faults, or it has taken too long."""
        end = time.monotonic() + self.options.settle_seconds
        while not holds() and not self.has_failed and time.monotonic() < end:
            await asyncio.sleep(0.05)

    async def settle(self) -> None:
        heads = await Heads(self).find()
        self.ledger.counts["heads"] = sum(head.offset for head in heads.values())
        await self.until(
            lambda: all(one.follower.place == heads.get(one.topic) for one in self.subscribers)
        )
        if self.has_failed:
            return
        for one in self.subscribers:
            one.follower.finish(heads[one.topic])
        self.ledger.finish(heads)

    def told(self):
        waited = [one.slowest for one in self.publishers if one.wait_seconds]
        others = [one.slowest for one in self.publishers if not one.wait_seconds]
        return {
            "faults": self.ledger.faults,
            **self.ledger.counts,
            **self.counts,
            "attempts": self.ledger.attempts.total(),
            "slowest_answer": round(max(others, default=0.0), 2),
            "slowest_waiting": round(max(waited, default=0.0), 2),
            "cpu_seconds": round(time.process_time(), 1),
        }


class Subscriber:
    """One connection after the other, one topic."""

    def __init__(self, run: Run, number: int, topic: str) -> None:
        self.run, self.number, self.topic = run, number, topic
        self.follower = Follower(run.ledger, topic, f"subscriber {number}")
        self.subscribed = asyncio.Event()
        self._client: Client | None = None
        self._answer: asyncio.Future | None = None
        # Some share what stands before the common part of a push, and some do not.
        self._event = "orders" if number % 2 else f"orders of {number}"

    async def live(self) -> None:
        while True:
            self._client = await self.run.connect(self._take, self.number)
            if await self._subscribe():
                self.subscribed.set()
                while await self._stay() and await self._subscribe_anew():
                    pass
            self._leave()
            await self._wait(self._away_seconds())

    def _take(self, client: Client, payload: bytes) -> None:
        if client is not self._client:
            return  # it was sent to somebody who has gone
        message = decode(payload)
        if "topic" in message:
            if "data" in message:
                # The ledger keeps what it is given.
                message["data"] = message["data"].removesuffix(self.run.filling)
            self.follower.take(message)
            return
        if "status" not in message and "epoch" in message["data"]:
            self.follower.answered(message["data"])
        elif "status" not in message:
            self.follower.left()
        if self._answer is None or self._answer.done():
            self.run.ledger.fault("an answer that nobody asked for", self.number, message)
        else:
            self._answer.set_result(message)

    async def _ask(self, method: str, **more) -> bool:
        """Tell whether a SUBSCRIBE or an UNSUBSCRIBE was answered with success."""
        client = self._client
        if client.closed.done():
            self.run.counts["lost"] += 1
            return False
        self._answer = asyncio.get_running_loop().create_future()
        request = {"method": method, "url": self.topic, "event_name": self._event, **more}
        client.send(frame(json.dumps(request).encode()))
        await asyncio.wait(
            [self._answer, client.closed],
            timeout=self.run.options.answer_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        answer, self._answer = self._answer, None
        if answer.done():
            status = answer.result().get("status")
            if status not in (None, UNAVAILABLE):
                self.run.ledger.fault("refused", self.number, answer.result())
            self.run.counts[f"{method} {status or 'done'}"] += 1
            return status is None
        if client.closed.done():
            self.run.counts["lost before the answer"] += 1
        else:
            self.run.ledger.fault("no answer", method, self.number, self.topic)
        return False

    async def _subscribe(self) -> bool:
        place = self.follower.place
        since = {"since": place._asdict()} if place else {}
        self.follower.subscribing()
        return await self._ask("SUBSCRIBE", **since)

    async def _stay(self) -> bool:
        """Tell whether the connection stays when its time has come."""
        run = self.run
        seconds = run.random.expovariate(1 / run.options.stay_seconds)
        client = self._client
        over = asyncio.ensure_future(run.is_over.wait())
        try:
            await asyncio.wait(
                [client.closed, over], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not client.closed.done() and over.done():
                await client.closed
        finally:
            over.cancel()
        if client.closed.done():
            run.counts["lost"] += 1
            return False
        return run.random.random() < 0.3

    async def _subscribe_anew(self) -> bool:
        """Leave the topic, and come back to it, on the same connection."""
        if not await self._ask("UNSUBSCRIBE"):
            return False
        await self._wait(self._away_seconds())
        return await self._subscribe()

    def _leave(self) -> None:
        client, self._client = self._client, None
        self.follower.left()
        if client.closed.done() or self.run.random.random() < 0.5:
            client.transport.abort()
        else:
            client.is_closing = True
            client.send(close_frame())
            client.transport.close()
        self.run.counts["left"] += 1

    def _away_seconds(self) -> float:
        run = self.run
        if self.topic.startswith("short") and run.random.random() < run.options.long_part:
            return run.options.long_seconds
        return run.random.expovariate(1 / run.options.away_seconds)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.run.is_over.wait(), seconds)


class Publisher:
    """A connection on which `/publish` is called; `pending` are the calls without an answer."""

    def __init__(self, run: Run, number: int, wait_seconds: float) -> None:
        self.run, self.number, self.wait_seconds = run, number, wait_seconds
        self.pending: dict[int, tuple[str, str, float]] = {}
        self.slowest = 0.0
        self._client: Client | None = None
        self._calls = 0

    async def live(self) -> None:
        while True:
            self._client = await self.run.connect(self._take, self.number)
            await self._client.closed
            self._client = None
            # Whether they were published nobody knows.
            self.run.counts["publishes lost"] += len(self.pending)
            self.pending.clear()
            await asyncio.sleep(self.run.random.uniform(0, RETRY_SECONDS))

    def publish(self, topic: str, data: str) -> None:
        if self._client is None or self._client.closed.done():
            self.run.counts["publishes not made"] += 1
            return
        self.run.ledger.attempt(topic)
        self._calls += 1
        self.pending[self._calls] = topic, data, time.monotonic()
        request = {
            "method": "POST",
            "url": "/publish",
            "args": {"topic": topic, "wait": self.wait_seconds},
            "data": data + self.run.filling,
            "id": self._calls,
        }
        self._client.send(frame(json.dumps(request).encode()))

    def _take(self, client: Client, payload: bytes) -> None:
        message = decode(payload)
        topic, data, sent = self.pending.pop(message["id"])
        self.slowest = max(self.slowest, time.monotonic() - sent)
        status = message.get("status")
        if status is None:
            self.run.ledger.confirm(topic, Place(**message["data"]), data)
        else:
            kind = "waited" if self.wait_seconds else "published"
            self.run.counts[f"{kind} {status}"] += 1
            if status != UNAVAILABLE:
                self.run.ledger.fault("a publish failed", message)


class Heads:
    """Where the topics are when nothing is published any more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._heads: dict[str, Place] = {}
        self._wanted: dict[int, str] = {}

    async def find(self) -> dict[str, Place]:
        client = await self._run.connect(self._take, 0)
        for number, topic in enumerate(self._run.topics):
            self._wanted[number] = topic
            request = {"method": "SUBSCRIBE", "url": topic, "id": number}
            client.send(frame(json.dumps(request).encode()))
        await self._run.until(lambda: not self._wanted)
        if self._wanted:
            self._run.ledger.fault("no head", *self._wanted.values())
        client.transport.abort()
        return self._heads

    def _take(self, client: Client, payload: bytes) -> None:
        message = decode(payload)
        if "topic" in message:
            self._run.ledger.fault("published after the end", message)
        elif "status" in message:
            self._run.ledger.fault("a head was refused", message)
        else:
            told = message["data"]
            topic = self._wanted.pop(message["id"])
            self._heads[topic] = Place(told["epoch"], told["offset"])


async def main(port: int, options: Options) -> None:
    run = Run(port, options)
    await run.work()
    tell(run.told())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), Options(**json.loads(sys.argv[2]))))
