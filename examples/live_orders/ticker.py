"""Prices that tick: a program of its own, which publishes to the clients of all servers."""

import argparse
import contextlib
import itertools
import time

from aiorest_ws.exceptions import TopicsUnavailable
from aiorest_ws.topics import connect

PRICES = {"salt": 120, "tea": 250}  # in cents


def tick(url, seconds):
    """Publish a price of each item every so many seconds, for ever."""
    with connect(url) as publisher:
        for step in itertools.cycle((0, 1, 2, 1)):
            for item, price in PRICES.items():
                told = {"item": item, "price": price + step}
                # A price that comes late is worth nothing: the next one comes anyway.
                with contextlib.suppress(TopicsUnavailable):
                    publisher.publish("prices", told, key=item)
            time.sleep(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", default="redis://127.0.0.1:6379/0", help="URL of Redis")
    parser.add_argument("--every", type=float, default=1, help="seconds")
    options = parser.parse_args()
    tick(options.topics, options.every)
