"""How much a run takes on: a smoke of seconds, or everything with AIOREST_WS_SOAK=full.

AIOREST_WS_SOAK=small is everything, too, with the numbers of the smoke.
"""

import os

IS_FULL = os.environ.get("AIOREST_WS_SOAK") == "full"
IS_SMOKE = not os.environ.get("AIOREST_WS_SOAK")


def number(name: str, smoke: int, full: int) -> int:
    """Return one of the two, or what AIOREST_WS_SOAK_<NAME> says."""
    given = os.environ.get(f"AIOREST_WS_SOAK_{name.upper()}")
    return int(given) if given else (full if IS_FULL else smoke)
