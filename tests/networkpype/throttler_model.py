"""A model of the throttler that searches all of its history for every answer.

The model shares nothing with the throttler but the rules. Those who wait are ordered by rank, then
by arrival. A request is due at the earliest moment at which it exceeds no half-open window of its
limits, given what has counted, what is held (as if it counted from now) and the due times of those
before it, none of which it may move. It goes when it is due.
"""

import asyncio
import dataclasses
import functools
import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
import throttlers
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from networkpype.exceptions import UnknownLimitError
from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
from networkpype.throttler.server_limits import ServerLimits
from networkpype.throttler.throttler import AsyncThrottler, Hold

AGING_SECONDS = 0.5


class VirtualTimeLoop(throttlers.VirtualTimeLoop):
    """A loop that the machine moves from one moment to the next."""

    def drain(self) -> None:
        """Let everything run that can without time going on."""
        self.run_until_complete(self._drain())

    async def _drain(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    def advance_to(self, moment: float) -> None:
        self.run_until_complete(self._advance_to(moment))
        self.drain()

    async def _advance_to(self, moment: float) -> None:
        reached = self.create_future()
        self.call_at(moment, reached.set_result, None)
        await reached


def limit(limit_id: str, count: int, interval: float, weight: int = 1, **links: int) -> RateLimit:
    pairs = [LinkedLimitWeightPair(linked_id, linked) for linked_id, linked in links.items()]
    return RateLimit(limit_id, count, interval, weight, pairs)


# The limits before and after being reconfigured: grown, shrunk, with another interval, another
# link, another weight, one removed. 0.1 and 0.7 have no exact binary form.
CONFIGURATIONS = [
    [
        limit("a", 3, 1.0, 1, total=2),
        limit("b", 4, 0.7, 2, total=1),
        limit("total", 6, 2.0, 1, deep=1),
        limit("deep", 7, 3.0),
        limit("lone", 2, 0.1),
    ],
    [
        limit("a", 5, 1.0, 1, total=1),
        limit("b", 3, 0.7, 1, total=3, deep=1),
        limit("total", 9, 2.0, 1, deep=1),
        limit("deep", 12, 3.0),
        limit("lone", 2, 0.1, 2),
    ],
    [
        limit("a", 2, 1.7, 2),
        limit("total", 3, 2.0, 1, deep=2),
        limit("deep", 4, 3.0),
        limit("lone", 1, 0.1, 0, deep=1),
    ],
]


@functools.cache
def end_of(start: float, interval: float) -> float:
    exact = Fraction(start) + Fraction(interval)
    end = float(exact)
    return end if Fraction(end) >= exact else math.nextafter(end, math.inf)


@dataclasses.dataclass
class Request:
    name: int
    limit_id: str
    priority: int
    counts_at_once: bool
    rank: float = 0.0
    state: str = "new"  # waiting, granted, held, settled, refused, cancelled
    admitted_at: float = -1.0
    weights: dict[str, int] = dataclasses.field(default_factory=dict)


Weights = dict[str, int]


class Model:
    """All that was ever admitted, and who must be admitted next."""

    def __init__(self, limits: list[RateLimit]) -> None:
        self.limits = {each.limit_id: each for each in limits}
        # Those of removed limits too.
        self.intervals = {each.limit_id: each.time_interval for each in limits}
        self.now = 0.0
        self.entries: dict[str, list[tuple[float, int]]] = {}
        self.corrections: dict[str, list[tuple[float, int]]] = {}
        self.frozen_until: dict[str, float] = {}
        # In the order of their arrival.
        self.requests: list[Request] = []
        # In the order of their admission, until they run.
        self.granted: list[Request] = []

    def weights(self, limit_id: str) -> Weights:
        found = {limit_id: self.limits[limit_id].weight}
        reached = [limit_id]
        for each in reached:
            for link in self.limits[each].linked_limits:
                found[link.limit_id] = found.get(link.limit_id, 0) + link.weight
                if link.limit_id not in reached:
                    reached.append(link.limit_id)
        return {each: weight for each, weight in found.items() if weight}

    def spans(self, limit_id: str) -> list[tuple[float, float, int]]:
        """Return (start, end, weight) of all that is used; what is held counts from now."""
        interval = self.intervals[limit_id]
        counted = [(s, end_of(s, interval), w) for s, w in self.entries.get(limit_id, ())]
        others = [(-math.inf, end, w) for end, w in self.corrections.get(limit_id, ())]
        held_until = end_of(self.now, interval)
        held = [
            (self.now, held_until, request.weights[limit_id])
            for request in self.having("granted", "held")
            if limit_id in request.weights
        ]
        return [span for span in counted + others + held if span[1] > self.now]

    def usage(self, limit_id: str) -> int:
        return sum(weight for _, _, weight in self.spans(limit_id))

    def having(self, *states: str) -> list[Request]:
        return [request for request in self.requests if request.state in states]

    def plan(self) -> "Plan":
        return Plan(self)

    def due(self, request: Request) -> float:
        """Return when a request is admitted that arrives now, if none comes after it."""
        plan = self.plan()
        for waiting in sorted(self.having("waiting"), key=lambda each: each.rank):
            if waiting.rank <= request.rank:
                plan.add(self.weights(waiting.limit_id))
        return plan.due(self.weights(request.limit_id))

    def settle(self) -> None:
        """Admit all who are due, in their order."""
        plan = self.plan()
        for request in sorted(self.having("waiting"), key=lambda each: each.rank):
            weights = self.weights(request.limit_id)
            if plan.add(weights) <= self.now:
                self.grant(request, weights)

    def grant(self, request: Request, weights: Weights) -> None:
        request.state = "granted"
        request.weights = weights
        self.granted.append(request)

    def arrive(self, request: Request) -> None:
        if request.limit_id not in self.limits:
            request.state = "refused"
            return
        request.rank = self.now - request.priority * AGING_SECONDS
        weights = self.weights(request.limit_id)
        is_awaited = any(
            weights.keys() & self.weights(waiting.limit_id) for waiting in self.having("waiting")
        )
        request.state = "waiting"
        self.requests.append(request)
        if not is_awaited and self.plan().due(weights) <= self.now:
            # Nobody else is affected.
            self.grant(request, weights)
        else:
            self.settle()

    def resume(self) -> list[Request]:
        """Let the admitted run; return them in the order of their admission."""
        resumed = [request for request in self.granted if request.state == "granted"]
        self.granted.clear()
        for request in resumed:
            request.state = "held"
            request.admitted_at = self.now
            if request.counts_at_once:
                self.count(request, self.now)
        return resumed

    def count(self, request: Request, start: float) -> None:
        request.state = "settled"
        for limit_id, weight in request.weights.items():
            self.entries.setdefault(limit_id, []).append((start, weight))
        self.settle()

    def drop(self, requests: list[Request], state: str) -> None:
        for request in requests:
            request.state = state
        self.settle()

    def instants(self) -> Iterator[float]:
        """Yield the moments at which something may become free."""
        for limit_id, entries in self.entries.items():
            yield from (end_of(start, self.intervals[limit_id]) for start, _ in entries)
        for corrections in self.corrections.values():
            yield from (end for end, _ in corrections)
        yield from self.frozen_until.values()

    def next_instant(self) -> float:
        return min((each for each in self.instants() if each > self.now), default=math.inf)

    def advance_to(self, moment: float) -> list[Request]:
        resumed = []
        while (instant := self.next_instant()) <= moment:
            self.now = instant
            self.settle()
            resumed += self.resume()
        self.now = moment
        return resumed

    def reconfigure(self, limits: list[RateLimit]) -> None:
        for limit_id, entries in self.entries.items():
            # What has left the old window stays forgotten when the new one is longer.
            interval = self.intervals[limit_id]
            entries[:] = [e for e in entries if self.now < end_of(e[0], interval)]
        self.limits = {each.limit_id: each for each in limits}
        self.intervals |= {each.limit_id: each.time_interval for each in limits}
        for request in self.having("waiting"):
            if request.limit_id not in self.limits:
                request.state = "refused"
        self.settle()


class Plan:
    """The due times of requests, one after another, by trying every moment."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.spans = {limit_id: model.spans(limit_id) for limit_id in model.limits}
        self.starts: dict[str, list[float]] = {limit_id: [] for limit_id in model.limits}

    def due(self, weights: Weights) -> float:
        ends = {end for limit_id in weights for _, end, _ in self.spans[limit_id]}
        frozen = {self.model.frozen_until.get(limit_id, 0.0) for limit_id in weights}
        now = self.model.now
        moments = sorted(each for each in {now, *ends, *frozen} if each >= now)
        return next(each for each in moments if self.fits(weights, each))

    def fits(self, weights: Weights, moment: float) -> bool:
        """Return whether a request fits at `moment`, and all that is planned still does then."""
        for limit_id, weight in weights.items():
            if moment < self.model.frozen_until.get(limit_id, -math.inf):
                return False
            limit, spans = self.model.limits[limit_id], self.spans[limit_id]
            end = end_of(moment, limit.time_interval)
            starts = [start for start in self.starts[limit_id] if moment < start < end]
            for at in (moment, *starts):
                used = sum(w for start, until, w in spans if start <= at < until)
                if used + weight > limit.limit:
                    return False
        return True

    def add(self, weights: Weights) -> float:
        moment = self.due(weights)
        for limit_id, weight in weights.items():
            interval = self.model.limits[limit_id].time_interval
            self.spans[limit_id].append((moment, end_of(moment, interval), weight))
            self.starts[limit_id].append(moment)
        return moment


class ThrottlerMachine(RuleBasedStateMachine):
    """Do the same to the throttler and to the model, and compare after every step."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.throttler = AsyncThrottler(
            self.to_throttler(CONFIGURATIONS[0]),
            safety_margin_pct=0.0,
            server_limits=ServerLimits(limit_ids={"x-mbx-used-weight-1m": "total"}),
            priority_aging_seconds=AGING_SECONDS,
        )
        self.loop.run_until_complete(self.take_throttler_in())
        self.model = Model(CONFIGURATIONS[0])
        self.was_reconfigured = False
        self.is_torn_down = False
        self.names = 0
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.holds: dict[int, Hold] = {}
        # (name, moment) of each admission, as they happened and as they had to.
        self.admissions: list[tuple[int, float]] = []
        self.expected: list[tuple[int, float]] = []
        self.refused: set[int] = set()
        self.requests: dict[int, Request] = {}
        # When what was consumed of each limit began to count, as seen from outside.
        self.ledger: dict[str, list[tuple[float, int]]] = {}

    def teardown(self) -> None:
        self.is_torn_down = True
        try:
            if not self.was_reconfigured:
                self.assert_no_window_is_exceeded()
            self.assert_nobody_is_lost()
        finally:
            for task in self.tasks.values():
                task.cancel()
            self.loop.drain()
            self.loop.close()

    def to_throttler(self, limits: list[RateLimit]) -> list[RateLimit]:
        """Return what the throttler is told; a machine that has to fail lies here."""
        return limits

    async def take_throttler_in(self) -> None:
        # It reads the clock of the loop that it has last been used in.
        assert self.throttler.execute_task("a").within_capacity()

    # -- what happens

    async def consume(self, request: Request) -> None:
        try:
            if request.counts_at_once:
                async with self.throttler.execute_task(request.limit_id):
                    self.admissions.append((request.name, self.loop.time()))
                    self.note(request, self.loop.time())
            else:
                hold = self.throttler.hold(request.limit_id, priority=request.priority)
                await hold.__aenter__()
                self.holds[request.name] = hold
                self.admissions.append((request.name, self.loop.time()))
        except UnknownLimitError:
            self.refused.add(request.name)

    @rule(
        burst=st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "total", "deep", "lone"]),
                st.sampled_from([None, 0, 0, 1, 3]),
                st.sampled_from([False, False, False, True]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def acquire(self, burst: list[tuple[str, int | None, bool]]) -> None:
        for limit_id, priority, is_cancelled in burst:
            self.names += 1
            request = Request(self.names, limit_id, priority or 0, counts_at_once=priority is None)
            self.requests[request.name] = request
            task = self.loop.create_task(self.consume(request))
            self.tasks[request.name] = task
            if is_cancelled:
                task.cancel()
                request.state = "cancelled"
            else:
                self.model.arrive(request)
        self.finish_step()

    @rule(which=st.lists(st.integers(0, 20), min_size=1, max_size=2))
    def cancel(self, which: list[int]) -> None:
        waiting = self.model.having("waiting")
        chosen = [waiting[index % len(waiting)] for index in which if waiting]
        for request in chosen:
            self.tasks[request.name].cancel()
        self.model.drop(chosen, "cancelled")
        self.finish_step()

    @rule(
        index=st.integers(0, 20),
        how=st.sampled_from(["count", "abandon", "abandon", "sent", "admission"]),
        cancelled=st.one_of(st.none(), st.integers(0, 3)),
    )
    def settle_hold(self, index: int, how: str, cancelled: int | None) -> None:
        """End a hold, and at once cancel somebody who may have been admitted by that."""
        held = self.model.having("held")
        if held:
            request = held[index % len(held)]
            hold = self.holds[request.name]
            self.settle_one(request, hold, how)
            if cancelled is not None:
                self.cancel_one(cancelled, "granted", "waiting")
            # The first outcome is the only one.
            hold.count()
            hold.count_from_admission()
            self.abandon(hold)
        self.finish_step()

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.7, 1.0, 1.9]))
    def advance(self, seconds: float) -> None:
        self.advance_to(self.model.now + seconds)

    @rule(is_before=st.booleans())
    def advance_to_next_instant(self, is_before: bool) -> None:
        instant = self.model.next_instant()
        if instant < math.inf:
            self.advance_to(math.nextafter(instant, 0.0) if is_before else instant)

    @rule(index=st.integers(0, len(CONFIGURATIONS) - 1), cancelled=st.integers(0, 9))
    def reconfigure(self, index: int, cancelled: int) -> None:
        self.was_reconfigured = True
        self.throttler.rate_limits = self.to_throttler(CONFIGURATIONS[index])
        self.model.reconfigure(CONFIGURATIONS[index])
        if cancelled < 3:
            self.cancel_one(cancelled, "granted", "waiting")
        self.finish_step()

    @rule(
        limit_id=st.sampled_from(["a", "b", "lone", "gone"]),
        seconds=st.sampled_from(["0", "1", "2", "nonsense"]),
    )
    def server_says_429(self, limit_id: str, seconds: str) -> None:
        self.throttler.observe(limit_id, 429, {"Retry-After": seconds})
        if limit_id in self.model.limits:
            until = self.model.now + (1.0 if seconds == "nonsense" else float(seconds))
            for consumed_id in self.model.weights(limit_id):
                frozen_until = self.model.frozen_until
                frozen_until[consumed_id] = max(frozen_until.get(consumed_id, 0.0), until)
            if until > self.model.now:
                self.model.settle()
        self.finish_step()

    @rule(used=st.integers(0, 12))
    def server_reports_usage(self, used: int) -> None:
        self.throttler.observe("a", 200, {"X-MBX-USED-WEIGHT-1M": str(used)})
        excess = used - self.model.usage("total")
        if excess > 0:
            end = end_of(self.model.now, self.model.limits["total"].time_interval)
            self.model.corrections.setdefault("total", []).append((end, excess))
        self.model.settle()
        self.finish_step()

    @rule(limit_id=st.sampled_from(["a", "b", "total", "lone"]), priority=st.integers(0, 2))
    def ask_and_try(self, limit_id: str, priority: int) -> None:
        if limit_id not in self.model.limits:
            with pytest.raises(UnknownLimitError):
                self.throttler.try_acquire(limit_id)
            return
        self.names += 1
        rank = self.model.now - priority * AGING_SECONDS
        request = Request(self.names, limit_id, priority, counts_at_once=True, rank=rank)
        due = self.model.due(request)
        would_admit = due <= self.model.now
        seconds = self.throttler.estimate_wait(limit_id, priority=priority)
        assert seconds == due - self.model.now
        if priority == 0:
            assert self.throttler.execute_task(limit_id).within_capacity() == would_admit
        assert self.throttler.try_acquire(limit_id, priority=priority) == would_admit
        if would_admit:
            request.weights = self.model.weights(limit_id)
            self.model.requests.append(request)
            self.model.count(request, self.model.now)
            self.note(request, self.model.now)
        self.finish_step()

    # -- how it is compared

    def cancel_one(self, index: int, *states: str) -> None:
        candidates = self.model.having(*states)
        if candidates:
            request = candidates[index % len(candidates)]
            self.tasks[request.name].cancel()
            self.model.drop([request], "cancelled")

    def settle_one(self, request: Request, hold: Hold, how: str) -> None:
        if how == "count":
            hold.count()
        elif how == "admission":
            hold.count_from_admission()
        else:
            if how == "sent":
                hold.mark_sent()
            self.abandon(hold)
        if how == "abandon":
            self.model.drop([request], "settled")
        else:
            start = request.admitted_at if how == "admission" else self.model.now
            self.model.count(request, start)
            self.note(request, start)

    def abandon(self, hold: Hold) -> None:
        """Leave the block of a hold without a turn of the loop."""
        with pytest.raises(StopIteration):
            hold.__aexit__(None, None, None).send(None)

    def note(self, request: Request, start: float) -> None:
        weights = request.weights or self.model.weights(request.limit_id)
        for limit_id, weight in weights.items():
            self.ledger.setdefault(limit_id, []).append((start, weight))

    def advance_to(self, moment: float) -> None:
        for request in self.model.advance_to(moment):
            self.expected.append((request.name, request.admitted_at))
        self.loop.advance_to(moment)
        self.finish_step()

    def finish_step(self) -> None:
        type(self).steps += not self.is_torn_down
        self.loop.drain()
        for request in self.model.resume():
            self.expected.append((request.name, self.model.now))
        self.compare()

    def compare(self) -> None:
        assert dict(self.admissions) == dict(self.expected)
        for limit_id in self.model.limits:
            assert self.queue_of(limit_id, self.admissions) == self.queue_of(
                limit_id, self.expected
            )
        assert self.refused == {r.name for r in self.requests.values() if r.state == "refused"}

    def queue_of(self, limit_id: str, admissions: list[tuple[int, float]]) -> list[int]:
        return [name for name, _ in admissions if limit_id in self.requests[name].weights]

    def assert_no_window_is_exceeded(self) -> None:
        for limit_id, entries in self.ledger.items():
            allowed = self.model.limits[limit_id]
            for start, _ in entries:
                end = end_of(start, allowed.time_interval)
                assert sum(w for s, w in entries if start <= s < end) <= allowed.limit

    def assert_nobody_is_lost(self) -> None:
        self.advance_to(self.model.now + 1000.0)
        while held := self.model.having("held"):
            for request in held:
                self.settle_one(request, self.holds[request.name], "abandon")
            self.finish_step()
            self.advance_to(self.model.now + 1000.0)
        assert not self.model.having("waiting")
        assert all(task.done() for task in self.tasks.values())


def run_machine(
    machine: type[ThrottlerMachine], examples: int, *, phases: tuple[Phase, ...]
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
