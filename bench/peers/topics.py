"""aiorest_ws with a topic, as its users run it. It counts how often a message is encoded."""

import argparse
from collections import Counter
from typing import Any

from aiorest_ws.app import Application
from aiorest_ws.decorators import endpoint
from aiorest_ws.routers import SimpleRouter
from aiorest_ws.topics import hub
from bench.peers.work import PRICE

counts: Counter[str] = Counter()


def count_calls(name: str) -> None:
    """Count how often the hub calls a function."""
    function = getattr(hub, name)

    def counting(*arguments: Any) -> Any:
        counts[name] += 1
        return function(*arguments)

    setattr(hub, name, counting)


@endpoint("/publish", "POST")
async def publish(request: Any) -> dict[str, int]:
    """Tell how often this message was encoded, and for how many the one before was framed."""
    framed = counts.pop("frame_of", 0)
    counts["encode_json"] = 0
    publishing = request.factory.publish("prices", PRICE)
    encoded = counts["encode_json"]
    await publishing
    return {"encoded": encoded, "framed": framed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--topics", default="memory")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    for name in ("encode_json", "frame_of"):
        count_calls(name)
    router = SimpleRouter()
    router.register_endpoint(publish)
    router.register_topic("prices")
    Application(router=router, topics=given.topics).run(port=0, workers=given.workers)


if __name__ == "__main__":
    main()
