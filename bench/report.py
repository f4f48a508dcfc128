"""What a run has found: medians, ratios, verdicts; as text and as JSON."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.rows import Goal, Row

UNITS = {
    "calls": "replies/s",
    "handshakes": "handshakes/s",
    "idle": "bytes/conn",
    "fan-out": "per core",
}
MAIN_MEASURE = {"calls": "rate", "handshakes": "rate", "idle": "bytes", "fan-out": "per_core"}
# Parts of a turn: how long the load may work, and the server may wait for its core.
MOST_BUSY = 0.95
MOST_WAITED = 0.05
DISTRIBUTIONS = (
    "autobahn",
    "Twisted",
    "msgspec",
    "uvloop",
    "picows",
    "aiofastnet",
    "aiohttp",
    "websockets",
    "fastapi",
    "starlette",
    "uvicorn",
    "httptools",
    "tornado",
    "redis",
)


@dataclass
class Verdict:
    """A goal, and what was measured."""

    goal: Goal
    peer: str | None
    value: float

    @property
    def is_met(self) -> bool:
        return self.goal.is_met(self.value)

    def __str__(self) -> str:
        state = "ok" if self.is_met else "MISSED"
        measured = f"{self.value:,.0f}" if self.peer is None else f"{self.value:.2f}"
        return f"goal {self.goal}  measured {measured}  {state}"


@dataclass
class Result:
    """The turns of a row: for each server, in the order of the table, what each turn gave."""

    row: Row
    turns: dict[str, list[dict[str, float]]]
    notes: list[str] = field(default_factory=list)
    echo: str = "echo"

    def median(self, name: str, measure: str) -> float:
        return statistics.median(turn[measure] for turn in self.turns[name])

    def ratio(self, peer: str, measure: str) -> float:
        """Return ours divided by `peer`: the median of the quotients of the same turn.

        What disturbs the machine for some seconds falls on both sides of a quotient.
        """
        ours = next(iter(self.turns.values()))
        pairs = zip(ours, self.turns[peer], strict=True)
        return statistics.median(mine[measure] / theirs[measure] for mine, theirs in pairs)

    def verdicts(self) -> list[Verdict]:
        ours, *others = self.turns
        found: list[Verdict] = []
        for goal in self.row.goals:
            if goal.peer is None:
                found.append(Verdict(goal, None, self.median(ours, goal.measure)))
                continue
            found += [
                Verdict(goal, name, self.ratio(name, goal.measure))
                for name in others
                if goal.peer == name or (goal.peer == "*" and name != self.echo)
            ]
        return found

    def doubts(self) -> list[str]:
        """Return what speaks against the numbers."""
        found = []
        for name, turns in self.turns.items():
            if "busy" in turns[0] and self.median(name, "busy") > MOST_BUSY:
                found.append(f"{name}: the load generator was the limit, not the server")
            for key, core in (("waited", "server"), ("load_waited", "load")):
                waited = max(turn.get(key, 0) for turn in turns)
                if waited > MOST_WAITED:
                    found.append(
                        f"{name}: something else had the {core}'s core for {waited:.0%} of a turn"
                    )
        return found

    def table(self) -> str:
        measure = MAIN_MEASURE[self.row.kind]
        has_latency, is_idle = self.row.kind in ("calls", "fan-out"), self.row.kind == "idle"
        ours, *_ = self.turns
        lines = [f"{self.row.name}: {self.row.text}"]
        head = f"  {'':14}{UNITS[self.row.kind]:>13}"
        if has_latency:
            head += f"{'p50 us':>9}{'p99 us':>9}{'max us':>10}"
        if is_idle:
            head += f"{'after a call':>14}"
        lines.append(f"{head}{'ours/it':>9}")
        verdicts = self.verdicts()
        for name in self.turns:
            line = f"  {name:14}{self.median(name, measure):13,.0f}"
            if has_latency:
                line += f"{self.median(name, 'p50'):9,.0f}{self.median(name, 'p99'):9,.0f}"
                line += f"{self.median(name, 'max'):10,.0f}"
            if is_idle:
                line += f"{self.median(name, 'called'):14,.0f}"
            line += f"{'' if name == ours else format(self.ratio(name, measure), '.2f'):>9}"
            told = [
                str(verdict)
                if verdict.goal.measure == measure
                else f"{verdict.goal.measure}: {verdict}"
                for verdict in verdicts
                if (verdict.peer or ours) == name
            ]
            lines.append("   ".join([line, *told]).rstrip())
        lines += [f"  note: {note}" for note in self.notes + self.doubts()]
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        measure = MAIN_MEASURE[self.row.kind]
        _ours, *others = self.turns
        keys = sorted({key for turns in self.turns.values() for key in turns[0]})
        return {
            "text": self.row.text,
            "connections": self.row.connections,
            "in_flight": self.row.depth,
            "unit": UNITS[self.row.kind],
            "medians": {n: {key: self.median(n, key) for key in keys} for n in self.turns},
            "ratios": {name: round(self.ratio(name, measure), 4) for name in others},
            "goals": [
                {
                    "measure": verdict.goal.measure,
                    "peer": verdict.peer,
                    "goal": str(verdict.goal),
                    "measured": round(verdict.value, 4),
                    "met": verdict.is_met,
                }
                for verdict in self.verdicts()
            ],
            "notes": self.notes + self.doubts(),
            "turns": self.turns,
        }


def machine(load_core: int, server_core: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_core": load_core,
        "server_core": server_core,
        "python": platform.python_version(),
        "revision": _revision(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _revision() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip() or "unknown"
