"""Measure the throttler (and that of networkpype 1.1.5): acquire, blocked waiters, wake-up.

Run from the repository: `python bench/throttler.py [--reference-python PATH] [--json FILE]`, where
PATH is an interpreter with networkpype 1.1.5. Each side runs in a process of its own; the sides
take turns in rounds, so that whatever else the machine does falls on both.

- acquire: `async with throttler.execute_task(...)` on a limit with two links (three limits), with
  0, 1,000 and 100,000 tasks in the log. The log of 1.1.5 is filled from outside: to fill it by
  acquiring would take hours.
- blocked: the share of one core that 1,000 waiters use, of whom 20 a second are let in.
- wake-up: the time from the end of a window until the one who waited for it runs, median.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOGGED = (0, 1_000, 100_000)
TARGETS = {
    **{f"acquire_us_at_{logged}": 3.0 for logged in LOGGED},
    "blocked_core_percent": 5.0,
    "wake_up_ms": 2.0,
}


def make_throttler(limit: int, interval: float) -> Any:
    from networkpype.throttler.rate_limit import LinkedLimitWeightPair, RateLimit
    from networkpype.throttler.throttler import AsyncThrottler

    links = [LinkedLimitWeightPair("all", 1), LinkedLimitWeightPair("orders", 1)]
    return AsyncThrottler(
        [
            RateLimit("own", limit, interval, 1, links),
            RateLimit("all", limit, interval),
            RateLimit("orders", limit, interval),
        ]
    )


def has_task_logs(throttler: Any) -> bool:
    """Tell whether this is 1.1.5."""
    return hasattr(throttler, "_task_logs")


async def fill(throttler: Any, logged: int) -> None:
    """Have so many tasks in the log."""
    if not has_task_logs(throttler):
        for _ in range(logged):
            async with throttler.execute_task("own"):
                pass
        return
    async with throttler.execute_task("own"):
        pass
    # One acquire leaves one entry for each of the three limits.
    throttler._task_logs *= logged


async def measure_acquire(logged: int) -> float:
    """Return microseconds per acquire."""
    throttler = make_throttler(10**7, 3600.0)
    await fill(throttler, logged)
    first = await time_acquires(throttler, 1)
    if first > 10_000:
        return statistics.median([await time_acquires(throttler, 1) for _ in range(3)])
    took = []
    for _ in range(10 if logged > 10_000 else 50):
        # A new one each time, so that the log does not grow while it is measured; for the same
        # reason only few acquires of 1.1.5, where each one makes the next one slower.
        throttler = make_throttler(10**7, 3600.0)
        await fill(throttler, logged)
        took.append(await time_acquires(throttler, 10 if has_task_logs(throttler) else 300))
    return statistics.median(took)


async def time_acquires(throttler: Any, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        async with throttler.execute_task("own"):
            pass
    return (time.perf_counter() - start) / count * 1e6


async def measure_blocked() -> float:
    """Return the percentage of a core that 1,000 waiters use."""
    throttler = make_throttler(22, 1.0)
    waiting = [asyncio.ensure_future(consume(throttler)) for _ in range(1_000)]
    await asyncio.sleep(0.3)
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(2.0)
    percent = (time.process_time() - cpu) / (time.perf_counter() - wall) * 100
    assert sum(not task.done() for task in waiting) > 900
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return percent


async def consume(throttler: Any) -> None:
    async with throttler.execute_task("own"):
        pass


async def measure_wake_up() -> float:
    """Return milliseconds."""
    interval, late = 0.02, []
    for _ in range(25):
        throttler = make_throttler(1, interval)
        await consume(throttler)
        free_at = time.perf_counter() + interval
        await consume(throttler)
        late.append(time.perf_counter() - free_at)
    return statistics.median(late) * 1000


async def measure() -> dict[str, float]:
    results = {f"acquire_us_at_{logged}": await measure_acquire(logged) for logged in LOGGED}
    results["blocked_core_percent"] = await measure_blocked()
    results["wake_up_ms"] = await measure_wake_up()
    return results


def run_side() -> None:
    """Measure one round for each line that comes in."""
    print("ready", flush=True)
    for _line in sys.stdin:
        print(json.dumps(asyncio.run(measure())), flush=True)


class Side:
    """A process that measures when it is told to."""

    def __init__(self, python: str, *, ours: bool) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        if ours:
            environment["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [python, __file__, "--side"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # 1.1.5 warns of nearly every acquire
            text=True,
            env=environment,
            cwd=Path(__file__).parent,
        )
        self.rounds: list[dict[str, float]] = []
        if self._answer() != "ready":
            raise SystemExit(f"{python} cannot run the measurement.")

    def measure(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rounds.append(json.loads(self._answer()))

    def close(self) -> None:
        self.process.communicate()

    def medians(self) -> dict[str, float]:
        return {
            name: round(statistics.median(each[name] for each in self.rounds), 3)
            for name in TARGETS
        }

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def revision() -> str:
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-python", help="an interpreter with networkpype 1.1.5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side()
        return
    sides = {"networkpype": Side(sys.executable, ours=True)}
    if options.reference_python:
        sides["networkpype 1.1.5"] = Side(options.reference_python, ours=False)
    for _ in range(options.rounds):
        for side in sides.values():
            side.measure()
    for side in sides.values():
        side.close()
    report(options, {name: side.medians() for name, side in sides.items()})


def report(options: argparse.Namespace, results: dict[str, dict[str, float]]) -> None:
    ours = results["networkpype"]
    print(f"{'':22}" + "".join(f"{name:>20}" for name in results) + f"{'ratio':>10}{'target':>10}")
    for name, target in TARGETS.items():
        values = [result[name] for result in results.values()]
        ratio = f"{values[1] / values[0]:.1f}" if len(values) > 1 and values[0] else "-"
        cells = "".join(f"{value:20.3f}" for value in values)
        print(f"{name:22}{cells}{ratio:>10}{target:>10}")
    flat = ours["acquire_us_at_100000"] / ours["acquire_us_at_0"]
    print(f"acquire at 100,000 logged / at 0: {flat:.2f}")
    if options.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        document = {
            **machine,
            "cores": os.cpu_count(),
            "revision": revision(),
            "rounds": options.rounds,
            **results,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
